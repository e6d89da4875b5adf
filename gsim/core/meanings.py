"""What the source says of a dataclass's fields: their types, and in the strings under them what they mean."""

from __future__ import annotations

import ast
import dataclasses
import functools
import itertools
import sys
from pathlib import Path
from typing import NamedTuple, TypeGuard


class Said(NamedTuple):
    """What the source says of one field."""

    kind: str
    """Its type, as it is written. (A compiled class does not keep that.)"""
    meaning: str
    """The string under it, in one line; empty where there is none."""


def said_of(config: type) -> dict[str, Said]:
    """Of every field of a dataclass (of inherited ones: what the class says that says it)."""
    found: dict[str, Said] = {}
    for cls in reversed(config.__mro__):
        if dataclasses.is_dataclass(cls):
            for name, said in _of_class(cls).items():
                known = found.get(name)
                # A class that only changes a default says nothing new of the field.
                found[name] = said if said.meaning or known is None else Said(said.kind, known.meaning)
    return found


def meanings(config: type) -> dict[str, str]:
    """Field -> the string under it, in one line, where there is one."""
    return {name: said.meaning for name, said in said_of(config).items() if said.meaning}


@functools.cache
def _of_class(cls: type) -> dict[str, Said]:
    body = next((node.body for node in ast.walk(_source(cls.__module__)) if _is(node, cls)), [])
    found = {}
    for statement, following in itertools.pairwise([*body, ast.Pass()]):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found[statement.target.id] = Said(ast.unparse(statement.annotation), _text(following))
    return found


def _text(statement: ast.stmt) -> str:
    """A string that stands alone, in one line; else empty."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return " ".join(value.value.split()) if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


@functools.cache
def _source(module: str) -> ast.Module:
    """A module's source; of a compiled module, that of the file beside it. Empty where there is none."""
    path = Path(getattr(sys.modules.get(module), "__file__", None) or "")
    file = path.parent / f"{path.name.partition('.')[0]}.py"
    return ast.parse(file.read_text(encoding="utf-8") if file.is_file() else "")


def _is(node: ast.AST, cls: type) -> TypeGuard[ast.ClassDef]:
    return isinstance(node, ast.ClassDef) and node.name == cls.__name__
