"""What a module's behaviour depends on: its source and that of all it imports, wherever the import stands.

gsim's own source is read with a pattern (Python's parser would take a third of a short command's time; a test holds
both to the same findings), a user's files with Python's parser. What a package's ``__init__`` only passes on is looked
up name by name: who imports ``gsim.migration.LinkConfig`` depends on ``gsim/migration/link.py``, not on the whole
package. The standard library is left out; of other installed packages that a user's file imports, the named module
itself counts, not what it imports. Libraries that gsim builds on are told by version in the provenance instead.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

import gsim

PACKAGE = Path(gsim.__file__).resolve().parent
_INSTALLED = tuple({str(Path(sysconfig.get_path(name)).resolve()) for name in ("purelib", "platlib", "stdlib")})
_TYPES_ONLY = re.compile(r"^if TYPE_CHECKING:\n(?:(?:[ \t][^\n]*)?\n)*", re.MULTILINE)
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]*(\([^)]*\)|[^\n#]*)|import[ \t]+([\w., \t]+))", re.MULTILINE
)
_COMMENT = re.compile(r"#[^\n]*")


class Import(NamedTuple):
    """``from module import names`` (name, and what it is bound to), or ``import module`` (no names)."""

    module: str
    names: tuple[tuple[str, str], ...] = ()


class Module(NamedTuple):
    """A module by name, and the file that it is read from."""

    name: str
    file: Path

    @property
    def package(self) -> bool:
        """Whether it is a package's ``__init__``."""
        return self.file.name == "__init__.py"

    @property
    def own(self) -> bool:
        """Whether it is gsim's."""
        return self.name.partition(".")[0] == "gsim"


def imports_by_pattern(source: str) -> list[Import]:
    """The imports of gsim's own source (one statement a line, absolute), those for types alone left out."""
    found = []
    for match in _IMPORT.finditer(_TYPES_ONLY.sub("", source)):
        module, names, modules = match.groups()
        if module is None:
            found += [Import(name.split()[0]) for name in modules.split(",") if name.strip()]
            continue
        listed = [name.split() for name in _COMMENT.sub("", names).strip("() \n").split(",") if name.strip()]
        found.append(Import(module, tuple((words[0], words[-1]) for words in listed)))
    return found


def imports_by_parser(source: str, module: str = "", *, package: bool = False) -> list[Import]:
    """The imports of any Python source, wherever they stand, by a literal name in a call as well.

    Modules of gsim that are named in full (``import gsim; gsim.b.c``) count too.
    """
    found = []
    for node in _run_time_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [Import(alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = tuple((alias.name, alias.asname or alias.name) for alias in node.names)
            found.append(Import(_absolute(node.module or "", node.level, module, package), names))
        elif isinstance(node, ast.Call):
            found += _called(node, module, package)
        elif isinstance(node, ast.Attribute):
            dotted = _dotted(node)
            found += [Import(dotted)] if dotted.startswith("gsim.") else []
    return found


def _run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).rpartition(".")[2] == "TYPE_CHECKING":
            for other in child.orelse:
                yield from (other, *_run_time_nodes(other))
            continue
        yield child
        yield from _run_time_nodes(child)


def _dotted(node: ast.AST) -> str:
    """``a.b.c`` as a text ('' for anything else)."""
    if isinstance(node, ast.Name):
        return node.id
    inner = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{inner}.{node.attr}" if inner and isinstance(node, ast.Attribute) else ""


def _called(call: ast.Call, module: str, package: bool) -> list[Import]:
    """``importlib.import_module("a.b")``, ``__import__("a")``: what a call imports by a literal name."""
    called = _dotted(call.func).rpartition(".")[2]
    given = [*call.args[:1], *(word.value for word in call.keywords if word.arg == "name")]
    if called not in ("import_module", "__import__") or not given:
        return []
    name = given[0].value if isinstance(given[0], ast.Constant) else None
    if not isinstance(name, str):
        return []
    bare = name.lstrip(".")
    return [Import(_absolute(bare, len(name) - len(bare), module, package))]


def _absolute(name: str, level: int, module: str, package: bool) -> str:
    if not level:
        return name
    above = module.split(".")[: len(module.split(".")) - level + package]
    return ".".join([*above, *([name] if name else [])])


@dataclass
class Sources:
    """Source files as they are read first: what a process has imported stays what it runs."""

    package: Path = PACKAGE
    """The folder of gsim itself."""
    _texts: dict[Path, tuple[object, bytes]] = field(default_factory=dict)
    _found: dict[str, Module | None] = field(default_factory=dict)
    _stated: dict[Module, list[Import]] = field(default_factory=dict)
    _direct: dict[Module, frozenset[Module]] = field(default_factory=dict)
    _digests: dict[frozenset[str], str] = field(default_factory=dict)

    def digest(self, names: Iterable[str]) -> str:
        """A digest of the source of these modules and of all that they import; changes with any byte of it."""
        asked = frozenset(names)
        if asked in self._digests:
            return self._digests[asked]
        found = self.closure(asked)
        digest = hashlib.sha256()
        for module in sorted(found):
            digest.update(module.name.encode() + b"\0" + hashlib.sha256(self._bytes(module)).digest())
        made = digest.hexdigest()[:20]
        if all(module.own for module in found):
            self._digests[asked] = made
        return made

    def closure(self, names: Iterable[str]) -> frozenset[Module]:
        """These modules and all that they import, directly or not (nothing for what has no source)."""
        found: set[Module] = set()
        waiting = [module for module in map(self.find, names) if module is not None]
        while waiting:
            module = waiting.pop()
            if module not in found:
                found.add(module)
                waiting += self._imported(module)
        return frozenset(found)

    def find(self, name: str) -> Module | None:
        """The module of this name; None for the standard library and what has no file."""
        top = name.partition(".")[0]
        if top == "gsim":
            if name not in self._found:
                self._found[name] = self._find_own(name)
            return self._found[name]
        if top in sys.stdlib_module_names or not top:
            return None
        file = getattr(sys.modules.get(name), "__file__", None) or _located(name)
        return Module(name, Path(file).resolve()) if file and Path(file).is_file() else None

    def _find_own(self, name: str) -> Module | None:
        rest = name.split(".")[1:]
        # The root only passes on what notebooks use, and runs in every process.
        place = str(self.package.joinpath(*rest))
        files = (f"{place}.py", f"{place}/__init__.py") if rest else ()
        return next((Module(name, Path(file)) for file in files if os.path.isfile(file)), None)

    def _imported(self, module: Module) -> frozenset[Module]:
        """What a module itself imports."""
        if not module.own:
            return frozenset(self._targets_of(module))
        if module not in self._direct:
            self._direct[module] = frozenset(self._targets_of(module))
        return self._direct[module]

    def _targets_of(self, module: Module) -> Iterator[Module]:
        followed = module.own or (module.file.suffix == ".py" and not str(module.file).startswith(_INSTALLED))
        for statement in self._imports(module) if followed else ():
            if module.own and statement.module.partition(".")[0] != "gsim":
                continue
            yield from self._targets(statement)

    def _imports(self, module: Module) -> list[Import]:
        if module.own:
            if module not in self._stated:
                self._stated[module] = imports_by_pattern(self._bytes(module).decode())
            return self._stated[module]
        source = self._bytes(module).decode(errors="replace")
        try:
            return imports_by_parser(source, module.name, package=module.package)
        except (SyntaxError, ValueError):
            return []

    def _targets(self, statement: Import) -> Iterator[Module]:
        if statement.names:
            for name, _ in statement.names:
                yield from self._named(statement.module, name)
            return
        # The longest part of a dotted name that is a module; whose parents run, but for gsim's, that pass names on.
        parts = statement.module.split(".")
        found = [self.find(".".join(parts[:size])) for size in range(len(parts), 0, -1)]
        there = [module for module in found if module is not None]
        yield from there[:1] if parts[0] == "gsim" else there

    def _named(self, package: str, name: str) -> Iterator[Module]:
        """Where a name of a module, or of what a package passes on, is defined."""
        below = self.find(f"{package}.{name}")
        own = self.find(package)
        if own is not None and not own.own:
            yield from (own, *self._parents(package))
        if below is not None:
            yield below
        elif own is not None and own.own and own.package:
            passed_on = [s for s in self._imports(own) if any(bound == name for _, bound in s.names)]
            for statement in passed_on:
                yield from self._targets(Import(statement.module, tuple(n for n in statement.names if n[1] == name)))
            if not passed_on:
                yield own
        elif own is not None:
            yield own

    def _parents(self, name: str) -> Iterator[Module]:
        while "." in name:
            name = name.rpartition(".")[0]
            found = self.find(name)
            if found is not None:
                yield found

    def _bytes(self, module: Module) -> bytes:
        """The file as it was when it was asked for first, or when what runs of it was imported anew."""
        running = sys.modules.get(module.name)
        stamp = running if running is not None else module.file.stat().st_mtime_ns
        known = self._texts.get(module.file)
        if known is None or (known[0] is not stamp and known[0] != stamp):
            known = self._texts[module.file] = (stamp, module.file.read_bytes())
        return known[1]


def _located(name: str) -> str | None:
    """The file that Python would import under this name, without importing anything."""
    places = None
    found = None
    for size in range(1, name.count(".") + 2):
        part = ".".join(name.split(".")[:size])
        try:
            found = PathFinder.find_spec(part, places)
        except (ImportError, ValueError):
            return None
        if found is None:
            return None
        places = found.submodule_search_locations
    return found.origin if found is not None and found.has_location else None


@functools.cache
def sources() -> Sources:
    """This process's sources."""
    return Sources()
