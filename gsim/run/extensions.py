"""The user's own policies: every ``./extensions/*.py`` is imported at the start, so what it registers can be chosen."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from gsim.core import ConfigError, registry

FOLDER = "extensions"


def extension_files() -> tuple[str, ...]:
    """The absolute paths of the extension files in the working directory, sorted."""
    return tuple(str(path.resolve()) for path in sorted(Path(FOLDER).glob("*.py")) if not path.name.startswith("_"))


def enter(folder: str, files: Iterable[str]) -> None:
    """Make a worker stand where its parent stands (where that folder exists) and know the same policies."""
    if Path(folder).is_dir():
        os.chdir(folder)
    load_extensions(files)


def load_those_that_work(files: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files that could be imported, and what is wrong with the others: a broken one concerns who uses it alone."""
    loaded: list[str] = []
    problems: list[str] = []
    for file in files:
        try:
            load_extensions([file])
        except ConfigError as error:
            problems.append(str(error))
        else:
            loaded.append(file)
    return tuple(loaded), tuple(problems)


def load_extensions(files: Iterable[str]) -> None:
    """Import each file once per process; raises ``ConfigError`` naming the file that cannot be imported.

    Of a file that cannot be imported nothing stays registered.
    """
    for file in files:
        name = f"gsim_extension_{Path(file).stem}"
        if name in sys.modules and sys.modules[name].__file__ == file:
            continue
        if not Path(file).is_file():
            raise ConfigError(f"{file}: not a file (a folder, a pipe?)")
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise ConfigError(f"{file}: not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            registry.forget(name)
            raise ConfigError(f"{file}: {type(error).__name__}: {error}") from error
