"""One touch point to extend gsim: ``@register("router", "my_router")`` on a dataclass.

The dataclass's fields are its configuration: they become the Hydra schema of the group (typed, with their
defaults), ``--help`` lists the name, and the contract tests pick it up. Where the object itself cannot carry its
configuration in its fields (an engine also needs a profile), ``config=`` names the dataclass that does.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from typing import Any, TypeVar

from gsim.core.construct import construct
from gsim.core.errors import ConfigError, GsimError

T = TypeVar("T", bound=type)


@dataclass(frozen=True)
class Entry:
    """A registered implementation: its group, its name, the class to build and the dataclass of its options."""

    group: str
    name: str
    cls: type
    config: type

    @property
    def summary(self) -> str:
        """The first line of the class's docstring, a sentence, as shown by ``--help``."""
        return _docstring(self.cls).strip().partition("\n")[0]


@functools.cache
def _docstring(cls: type) -> str:
    """A class's docstring. A compiled class has none: it is read in the source, which is its module's file."""
    module = sys.modules[cls.__module__]
    if not isinstance(module.__loader__, ExtensionFileLoader):
        return cls.__doc__ or ""
    tree = ast.parse(Path(str(module.__file__)).read_bytes())
    found = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__)
    return next((ast.get_docstring(node) or "" for node in found), "")


_ENTRIES: dict[str, dict[str, Entry]] = {}

# Which packages hold the implementations of a group: importing their modules registers them.
_HOMES: dict[str, tuple[str, ...]] = {
    "router": ("gsim.routing", "gsim.optimum"),
    "predictor": ("gsim.prediction",),
    "estimator": ("gsim.estimation",),
    "rectifier": ("gsim.migration",),
    "mechanism": ("gsim.migration",),
    "scaler": ("gsim.scaling",),
    "handover": ("gsim.handover",),
    "engine": ("gsim.engine",),
    "scheduler": ("gsim.scheduling",),
    "trace": ("gsim.workload.formats", "gsim.workload.generate"),
    "slo": ("gsim.workload",),
    "study": ("gsim.study.questions", "gsim.paper", "gsim.validation.studies"),
}


# Those whose modules have all been imported: to look through their files again takes a millisecond each.
_IMPORTED: set[str] = set()


def register(group: str, name: str, *, config: type | None = None) -> Callable[[T], T]:
    """Register a class under ``name`` in ``group``; raises ``ConfigError`` when the name is taken."""

    def decorate(cls: T) -> T:
        options = config or cls
        if not dataclasses.is_dataclass(options):
            raise ConfigError(
                f"{group} '{name}': {options.__name__} must be a dataclass, its fields are the configuration"
            )
        taken = _ENTRIES.setdefault(group, {}).get(name)
        if taken is not None and (taken.cls.__module__, taken.cls.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ConfigError(f"{group} '{name}' is registered twice: by {taken.cls.__module__} and {cls.__module__}")
        _ENTRIES[group][name] = Entry(group, name, cls, options)
        return cls

    return decorate


def forget(module: str) -> None:
    """Take back what a module registered (one whose import failed half-way)."""
    for names in _ENTRIES.values():
        for name in [name for name, entry in names.items() if entry.cls.__module__ == module]:
            del names[name]


def groups() -> list[str]:
    """The names of all groups that can hold implementations."""
    return sorted(_HOMES)


def registered(group: str) -> dict[str, Entry]:
    """The implementations of a group that have been imported so far, by name."""
    return _ENTRIES.get(group, {})


def entries(group: str) -> dict[str, Entry]:
    """All implementations of a group by name, sorted (imports the modules of the group's package first)."""
    for home in _HOMES.get(group, ()):
        if home in _IMPORTED:
            continue
        _IMPORTED.add(home)
        package = importlib.import_module(home)
        for module in pkgutil.iter_modules(package.__path__):
            # A module that is a program (python -m gsim.workload) is run, not imported.
            if module.name != "__main__":
                importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_ENTRIES.get(group, {}).items()))


def lookup(group: str, name: str) -> Entry:
    """The implementation ``name`` of ``group``; raises ``ConfigError`` that lists what there is."""
    found = _ENTRIES.get(group, {}).get(name)
    if found is not None:
        # A pool of 512 asks 512 times: to go through the package's files again takes longer than to make an engine.
        return found
    known = entries(group)
    if name not in known:
        raise ConfigError(f"unknown {group} '{name}'; there are: {', '.join(known) or 'none'}")
    return known[name]


def name_of(group: str, made: object) -> str:
    """The name under which the class of an object is registered in a group; empty where it is not."""
    found = (entry.name for entry in _ENTRIES.get(group, {}).values() if entry.cls is type(made))
    return next(found, "")


def build(group: str, name: str, /, **fields: Any) -> Any:
    """Build ``name`` of ``group`` from its fields; raises ``ConfigError`` on an unknown name or field, and on a value
    that its field does not take."""
    entry = lookup(group, name)
    with making(group, name):
        return construct(entry.config, fields, group)


@contextmanager
def making(group: str, name: str) -> Iterator[None]:
    """What fails while an implementation is made is told as a ``ConfigError`` that names it, and where it failed."""
    try:
        yield
    except GsimError:
        raise
    except Exception as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace is not None else ""
        raise ConfigError(f"{group} '{name}' cannot be made: {type(error).__name__}: {error}{where}") from error
