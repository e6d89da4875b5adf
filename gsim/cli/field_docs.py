"""What the fields of a dataclass mean: the strings under them in the source."""

from __future__ import annotations

import ast
import dataclasses
import functools
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard


class FieldDoc(NamedTuple):
    """One field of an option, for people."""

    name: str
    kind: str
    default: str
    meaning: str


def fields_of(config: type | None, values: Mapping[str, Any] | None = None) -> list[FieldDoc]:
    """The configurable fields of a dataclass (``values`` replace defaults), with the strings that stand under them."""
    if config is None:
        return []
    said = meanings(config)
    own = values or {}
    return [
        # A compiled class has its plain types themselves where others have their names.
        FieldDoc(f.name, getattr(f.type, "__name__", str(f.type)), _default(f, own), said.get(f.name, ""))
        for f in dataclasses.fields(config)
        if f.init and f.name != "name"
    ]


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


def _default(field: dataclasses.Field[Any], own: Mapping[str, Any]) -> str:
    if field.name in own:
        return _told(own[field.name])
    if field.default is not dataclasses.MISSING:
        return _told(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return _told(field.default_factory())
    return "mandatory"


def _told(value: Any) -> str:
    from gsim.run.schema import plain_value
    from gsim.study.literal import literal

    made = plain_value(value)
    text = "mandatory" if made == "???" else literal(made)
    # So that a long list can be broken into lines.
    return text.replace(",", ", ") if isinstance(made, dict | list) else text
