"""Values that a Python caller gives, held to the types of the fields that they are for.

The command line has its values typed by Hydra; a caller's are typed here, by the same rules, so that both give the same
configuration and the same run has the same key.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from gsim.core import ConfigError
from gsim.core.construct import SAID, bare, check_names, check_simple, field_hints
from gsim.core.errors import MissingFieldError
from gsim.run.schema import plain_value


def filled(config: type, base: Mapping[str, Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of a dataclass as plain values: those given over those of ``base``, nested ones field by field.

    ``where`` names the place in messages. Raises ``ConfigError`` for a field that there is not, a value of another
    type, and a mandatory field that nobody gave.
    """
    hints = field_hints(config)
    allowed = list(hints)
    found = {name: value for name, value in base.items() if name in allowed}
    for name, value in given.items():
        if name not in allowed:
            raise ConfigError(f"{where} has no field '{name}'; its fields are: {', '.join(allowed) or 'none'}")
        found[name] = _typed(hints[name], value, f"{where}.{name}", found.get(name))
    for name in allowed:
        if name not in found:
            raise MissingFieldError(f"{where}.{name}")
    return found


def defaults(config: type) -> dict[str, Any]:
    """The defaults of a dataclass's fields as plain values; a field without one is left out."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        if field.init and field.default is not dataclasses.MISSING:
            found[field.name] = plain_value(field.default)
        elif field.init and field.default_factory is not dataclasses.MISSING:
            found[field.name] = plain_value(field.default_factory())
    return found


def _typed(hint: Any, value: Any, where: str, base: Any = None) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    annotated, (hint, _) = hint, bare(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _of_union(arguments, value, where, base)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where} must be one of {', '.join(map(str, arguments))}; not {value!r}")
        return value
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _nested(hint, value, where, base)
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return _mapping(arguments, value, where, base)
    if isinstance(kind, type) and issubclass(kind, Sequence) and not issubclass(kind, str):
        return _items(kind, arguments, value, where)
    return _simple(annotated, value, where)


def _of_union(arguments: tuple[Any, ...], value: Any, where: str, base: Any) -> Any:
    kinds = [kind for kind in arguments if kind is not type(None)]
    if value is None and len(kinds) < len(arguments):
        return None
    if len(kinds) == 1:
        return _typed(kinds[0], value, where, base)
    return _simple(float, value, where) if set(kinds) == {int, float} else plain_value(value)


def _nested(hint: type, value: Any, where: str, base: Any) -> dict[str, Any]:
    if isinstance(value, hint):
        value = plain_value(value)
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must be a mapping of fields, not {value!r}")
    return filled(hint, base if isinstance(base, Mapping) else defaults(hint), value, where)


def _mapping(arguments: tuple[Any, ...], value: Any, where: str, base: Any) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must be a mapping, not {value!r}")
    check_names(arguments, value, where)
    inner = arguments[1] if len(arguments) == 2 else Any
    own = {key: _typed(inner, item, f"{where}.{key}") for key, item in value.items()}
    return {**base, **own} if isinstance(base, Mapping) else own


def _items(kind: type, arguments: tuple[Any, ...], value: Any, where: str) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence | set | frozenset | np.ndarray):
        raise ConfigError(f"{where} must be a list, not {value!r}")
    items = sorted(value) if isinstance(value, set | frozenset) else list(value)
    alike = len(arguments) == 1 or (len(arguments) == 2 and arguments[1] is Ellipsis)
    inner = arguments[0] if alike and kind is not dict else Any
    return [_typed(inner, item, f"{where}[{i}]") for i, item in enumerate(items)]


def _simple(annotated: Any, value: Any, where: str) -> Any:
    hint, _ = bare(annotated)
    if hint is Path and isinstance(value, str | Path):
        return str(value)
    if isinstance(hint, type) and issubclass(hint, Enum) and not isinstance(value, Enum):
        return value
    if hint not in SAID:
        return plain_value(value)
    if hint is str and isinstance(value, str | Path):
        return str(value)
    check_simple(annotated, value, where)
    return hint(value)
