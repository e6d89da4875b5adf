"""What the fields of a dataclass mean: the strings under them in the source."""

from __future__ import annotations

import ast
import dataclasses
import functools
import itertools
import sys
from pathlib import Path
from typing import TypeGuard


def meanings(config: type) -> dict[str, str]:
    """Field -> the string under it, in one line (of inherited fields: of the class that says it)."""
    found: dict[str, str] = {}
    for cls in reversed(config.__mro__):
        if dataclasses.is_dataclass(cls):
            found |= _of_class(cls)
    return found


@functools.cache
def _of_class(cls: type) -> dict[str, str]:
    body = next((node.body for node in ast.walk(_source(cls.__module__)) if _is(node, cls)), [])
    found = {}
    for statement, following in itertools.pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            value = following.value if isinstance(following, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[statement.target.id] = " ".join(value.value.split())
    return found


@functools.cache
def _source(module: str) -> ast.Module:
    """A module's source; of a compiled module, that of the file beside it. Empty where there is none."""
    path = Path(getattr(sys.modules.get(module), "__file__", None) or "")
    file = path.parent / f"{path.name.partition('.')[0]}.py"
    return ast.parse(file.read_text(encoding="utf-8") if file.is_file() else "")


def _is(node: ast.AST, cls: type) -> TypeGuard[ast.ClassDef]:
    return isinstance(node, ast.ClassDef) and node.name == cls.__name__
