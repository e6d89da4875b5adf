"""The Hydra schema, made from the registry: a configuration node is ``{name: ..., **fields of the dataclass}``.

Hydra (OmegaConf) knows fewer types than Python. A field whose type it does not know is untyped in the schema; the
dataclass itself still checks the value.
"""

from __future__ import annotations

import copyreg
import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

_PLAIN = (int, float, bool, str, Path, bytes)

# The schema's classes travel to worker processes by value. What marks a field without a default is known by identity:
# a copy of it would be taken for a default, so it travels by name.
copyreg.pickle(type(dataclasses.MISSING), lambda missing: "MISSING")


def node(name: str, config: type | None, values: Mapping[str, Any] | None = None) -> type:
    """The structured-config class of one option: ``name`` first, then the fields of ``config`` with their defaults.

    A field without a default becomes mandatory (``???``). ``config`` may be None: an option without fields.
    ``values`` replace defaults.
    """
    own = values or {}
    fields: list[tuple[str, Any, Any]] = [("name", str, dataclasses.field(default=name))]
    for field, kind, default in _fields(config) if config is not None else ():
        if field != "name":
            fields.append((field, kind, _stored(own[field], kind) if field in own else default))
    return dataclasses.make_dataclass(config.__name__ if config else name, fields)


def tree(config: type) -> type:
    """The structured-config class of a study, whose fields become top-level keys."""
    return dataclasses.make_dataclass(config.__name__, _fields(config))


def _fields(config: type) -> list[tuple[str, Any, Any]]:
    hints = typing.get_type_hints(config)
    kinds = {f.name: annotation(hints[f.name]) for f in dataclasses.fields(config) if f.init}
    return [(f.name, kinds[f.name], _default(f, kinds[f.name])) for f in dataclasses.fields(config) if f.init]


def annotation(hint: Any) -> Any:
    """The closest type that OmegaConf has for a Python type; ``Any`` where it has none."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is None:
        return _simple_annotation(hint)
    if origin is typing.Literal:
        kinds = {type(value) for value in arguments}
        return kinds.pop() if len(kinds) == 1 else Any
    if origin in (typing.Union, types.UnionType):
        return _union_annotation(arguments)
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        return list[Any]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return types.GenericAlias(dict, (arguments[0], annotation(arguments[1])))
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return types.GenericAlias(list, (annotation(arguments[0]),))
    return Any


def _simple_annotation(hint: Any) -> Any:
    if not isinstance(hint, type):
        return Any
    if hint in _PLAIN or issubclass(hint, Enum):
        return hint
    if dataclasses.is_dataclass(hint):
        return dataclasses.make_dataclass(hint.__name__, _fields(hint))
    if issubclass(hint, list | tuple):
        return list[Any]
    return dict[str, Any] if issubclass(hint, dict) else Any


def _union_annotation(arguments: tuple[Any, ...]) -> Any:
    kept = [a for a in arguments if a is not type(None)]
    if len(kept) == 1:
        inner = annotation(kept[0])
        return inner if inner is Any else typing.Optional[inner]  # noqa: UP045 - a value, not an annotation
    if set(kept) == {int, float}:
        return typing.Optional[float] if len(kept) < len(arguments) else float  # noqa: UP045
    return Any


def _default(field: dataclasses.Field[Any], kind: Any) -> Any:
    if field.default is not dataclasses.MISSING:
        return _stored(field.default, kind)
    if field.default_factory is not dataclasses.MISSING:
        return _stored(field.default_factory(), kind)
    return dataclasses.field(default="???")


def _stored(value: Any, kind: Any) -> Any:
    made = _typed(plain_value(value), kind)
    if made is None or isinstance(made, (*_PLAIN, Enum)):
        return dataclasses.field(default=made)
    return dataclasses.field(default_factory=lambda: made)


def _typed(value: Any, kind: Any) -> Any:
    """Plain values as instances of the schema's own dataclasses, where the schema has some."""
    arguments = [a for a in typing.get_args(kind) if a is not type(None)]
    if isinstance(value, dict) and dataclasses.is_dataclass(kind):
        kinds = {f.name: f.type for f in dataclasses.fields(kind)}
        return typing.cast(type, kind)(**{key: _typed(item, kinds[key]) for key, item in value.items()})
    if isinstance(value, list):
        return [_typed(item, arguments[0] if arguments else Any) for item in value]
    if isinstance(value, dict) and typing.get_origin(kind) is dict:
        return {key: _typed(item, arguments[1]) for key, item in value.items()}
    return _typed(value, arguments[0]) if isinstance(value, dict) and len(arguments) == 1 else value


def plain_value(value: Any) -> Any:
    """A value as OmegaConf stores it: dataclasses as mappings, tuples and sets as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain_value(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {key: plain_value(item) for key, item in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [plain_value(item) for item in items]
    return value
