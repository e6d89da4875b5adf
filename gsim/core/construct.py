"""Dataclasses from plain values: what is written in a configuration, held to the types of the fields that it is for."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from gsim.core.errors import ConfigError

_INFINITE = "infinite"
FloatOrInf = Annotated[float, _INFINITE]
"""The type of a field in which ``inf`` says something (never, no limit); any other number of a field is finite.

(A class that mypyc compiles forgets what is annotated: such a field belongs into one that is not.)
"""

#: How messages call the simple types of fields.
#: Arrays compute with 64 bits.
_MOST = 2**63 - 1
SAID = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def construct(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """Build a dataclass from plain values (as Hydra hands them out), nested dataclasses and tuples included.

    ``where`` names the place in error messages. Raises ``ConfigError`` on a field that ``cls`` does not have, and on a
    value that its field does not take.
    """
    hints = field_hints(cls)
    unknown = [key for key in values if key not in hints]
    if unknown:
        raise ConfigError(f"{where} has no field '{unknown[0]}'; its fields are: {', '.join(hints) or 'none'}")
    return cls(**{key: _value(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def field_hints(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields by name; a field whose default is infinite takes ``inf``."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {
        each.name: Annotated[hints[each.name], _INFINITE] if _is_infinite(each.default) else hints[each.name]
        for each in dataclasses.fields(cls)
        if each.init
    }


def bare(hint: Any) -> tuple[Any, bool]:
    """A type without what is annotated, and whether it takes ``inf``."""
    if typing.get_origin(hint) is not Annotated:
        return hint, False
    inner, *notes = typing.get_args(hint)
    plain, infinite = bare(inner)
    return plain, infinite or _INFINITE in notes


def check_simple(hint: Any, value: Any, where: str) -> None:
    """``ConfigError`` for a number that no field takes (nan; inf unless the field says so), and where ``hint`` is a
    simple type for what is not of it.

    What is written inside a field of no type of its own (an instance's ``engine``) was typed by nobody before.
    """
    kind, infinite = bare(hint)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and math.isnan(value):
        raise ConfigError(f"{where} must be a number, not nan")
    if number and kind is not Any and not infinite and math.isinf(value):
        raise ConfigError(f"{where} must be a finite number, not {value}")
    if kind not in SAID:
        return
    fits = number if kind is float else isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if kind is int:
        fits = number and math.isfinite(value) and value == int(value)
    if not fits:
        raise ConfigError(f"{where} must be {SAID[kind]}, not {value!r}")
    if kind is int and abs(value) > _MOST:
        raise ConfigError(f"{where} must be from -{_MOST} to {_MOST}, not {value:.3g}")


def check_names(arguments: tuple[Any, ...], value: Mapping[Any, Any], where: str) -> None:
    """``ConfigError`` where a mapping of names has a key that is none: the number 1 is not the name '1'."""
    wrong = [key for key in value if not isinstance(key, str)] if arguments[:1] == (str,) else []
    if wrong:
        raise ConfigError(f"{where}: a name must be a text, not {wrong[0]!r}")


def _is_infinite(default: Any) -> bool:
    return isinstance(default, float) and math.isinf(default)


def _value(hint: Any, value: Any, where: str) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if value is None:
        return None
    annotated, (hint, _) = hint, bare(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _of_union(arguments, value, where)
    check_simple(annotated, value, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            return construct(hint, dict(value), where)
        if not isinstance(value, hint):
            raise ConfigError(f"{where} must be a mapping of fields, not {value!r}")
    if isinstance(value, tuple) and isinstance(hint, type) and isinstance(value, hint):
        return value  # a named tuple is what it is
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _sequence(origin or hint, arguments, value, where)
    if isinstance(value, Mapping):
        check_names(arguments, value, where)
        inner = arguments[1] if len(arguments) == 2 else Any
        return {key: _value(inner, item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(hint, type) and issubclass(hint, Enum) and not isinstance(value, Enum):
        return hint[value] if value in hint.__members__ else hint(value)
    if hint is int:
        return int(value)
    return Path(value) if hint is Path else value


def _of_union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    """A value of one of several types: of the one that it can be; of anything, where that is not to be told."""
    kinds = [kind for kind in arguments if kind is not type(None)]
    if len(kinds) == 1:
        return _value(kinds[0], value, where)
    mappings = [kind for kind in kinds if _is_mapping(kind)]
    if isinstance(value, Mapping) and len(mappings) == 1:
        return _value(mappings[0], value, where)
    check_simple(object, value, where)
    return value


def _is_mapping(hint: Any) -> bool:
    kind = typing.get_origin(hint) or hint
    return isinstance(kind, type) and issubclass(kind, Mapping)


def _sequence(origin: Any, arguments: tuple[Any, ...], value: Sequence[Any], where: str) -> Any:
    inner = arguments[0] if arguments else Any
    items = [_value(inner, item, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin in (tuple, set, frozenset):
        return origin(items)
    return items
