"""Which form of the hot modules runs: compiled by mypyc at installation (``hatch_build.py``), or their source.

Compiled only if every source file that the compiler read is still the same: an edit always takes effect. All or none,
since the compiled modules call one another in C.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

_ROOT = Path(__file__).parent.parent
_TOLD = "GSIM_TOLD_SOURCE"


class _Loader(ExtensionFileLoader):
    """Loads a compiled module; its ``__file__`` is its source, for those who read docstrings there."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        module.__file__ = str(_ROOT.joinpath(*module.__name__.split(".")).with_suffix(".py"))


class _Compiled:
    """Finds the compiled modules, before their source is found."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._files = files

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        file = self._files.get(name)
        return spec_from_file_location(name, file, loader=_Loader(name, str(file))) if file else None


def choose() -> tuple[bool, str]:
    """Put the compiled modules in place where they may be used: whether they are, and why (not)."""
    if os.environ.get("GSIM_PURE", "") not in ("", "0"):
        return False, "GSIM_PURE is set"
    found = PathFinder.find_spec("_gsim_compiled")
    places = (found and found.submodule_search_locations) or ()
    folder = next((Path(place) for place in places if Path(place, "manifest.json").is_file()), None)
    if folder is None:
        return False, "nothing was compiled at installation"
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    if "why" in manifest:
        return False, manifest["why"]
    for source, digest in manifest["sources"].items():
        path = _ROOT / source
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            return False, _tell(f"{source} has changed since the installation; to compile again: pip install -e .")
    sys.meta_path.insert(0, _Compiled({name: folder / file for name, file in manifest["modules"].items()}))
    return True, "compiled at installation"


def _tell(why: str) -> str:
    if _TOLD not in os.environ:  # workers inherit it: one line per study
        os.environ[_TOLD] = "1"
        print(f"gsim: runs from source: {why}", file=sys.stderr)  # noqa: T201
    return why
