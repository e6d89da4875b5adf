"""``field=value`` words of a program's command line, typed as the fields of a dataclass."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from gsim.core.errors import ConfigError
from gsim.core.meanings import meanings
from gsim.core.numbers import number_of, whole_of

T = TypeVar("T")


class Options(Protocol):
    """A dataclass of options that can refuse itself."""

    def validate(self) -> None:
        """Refuse what cannot be done; raises ``ConfigError``."""
        ...


Checked = TypeVar("Checked", bound=Options)


def parse_options(schema: type[Checked], words: Sequence[str]) -> Checked:
    """Options of type ``schema`` from ``field=value`` words, which also validate; else ``ConfigError`` says why."""
    options = read_options(schema, words)
    options.validate()
    return options


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    """Raise a ``ConfigError`` that names the option, its value and what is allowed, unless ``holds``."""
    if not holds:
        raise ConfigError(f"{name} must be {allowed}, not {value}")


def option_help(schema: type) -> str:
    """The options of a program, one after the other: name, default, and the string under the field."""
    said = meanings(schema)
    lines = []
    for option in dataclasses.fields(schema):
        default = "(required)"
        if option.default is not dataclasses.MISSING:
            default = f"= {option.default}"
        elif option.default_factory is not dataclasses.MISSING:
            default = f"= {option.default_factory()}"
        lines.append(f"{option.name} {default}\n    {said.get(option.name, '')}".rstrip())
    return "\n".join(lines)


def read_options(config: type[T], words: Sequence[str]) -> T:
    """The dataclass ``config`` from ``field=value`` words; raises ``ConfigError`` that names what is wrong."""
    fields = [f for f in dataclasses.fields(typing.cast(Any, config)) if f.init]
    plain, given = split_words(words)
    if plain:
        raise ConfigError(f"'{plain[0]}' is no option; options are: {', '.join(f'{f.name}=...' for f in fields)}")
    values = typed(config, given)
    missing = [f.name for f in fields if f.name not in values and f.default is f.default_factory is dataclasses.MISSING]
    if missing:
        raise ConfigError(f"missing: {', '.join(f'{name}=...' for name in missing)}")
    return config(**values)


def split_words(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Plain words, and those of the form key=value; ``ConfigError`` where a key comes twice."""
    plain: list[str] = []
    given: dict[str, str] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key.replace(".", "").replace("_", "").isalnum():
            plain.append(word)
        elif key in given:
            raise ConfigError(f"{key} is given twice")
        else:
            given[key] = value
    return plain, given


def typed(config: type, texts: Mapping[str, str], where: str = "") -> dict[str, Any]:
    """Values for the fields of ``config``; a field ``a.b`` belongs to the dataclass in field ``a``.

    ``where`` is what errors call the dataclass. Raises ``ConfigError`` that names what is wrong.
    """
    hints = typing.get_type_hints(config)
    allowed = [f.name for f in dataclasses.fields(config) if f.init]
    nested: dict[str, dict[str, str]] = {}
    values: dict[str, Any] = {}
    for key, text in texts.items():
        name, _, inner = key.partition(".")
        if name not in allowed or bool(inner) != dataclasses.is_dataclass(hints[name]):
            has_no = (
                f"{where} has no field '{key}'; its fields are" if where else f"there is no option '{key}'; there are"
            )
            raise ConfigError(f"{has_no}: {', '.join(allowed)}")
        if inner:
            nested.setdefault(name, {})[inner] = text
        else:
            values[name] = _value(hints[name], text, key)
    for name, texts_inside in nested.items():
        values[name] = hints[name](**typed(hints[name], texts_inside, f"{where}.{name}".lstrip(".")))
    return values


def _value(hint: Any, text: str, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if text in ("null", "none", ""):
            return None
        return _value(next(a for a in arguments if a is not type(None)), text, key)
    if origin in (tuple, list):
        items = [item.strip() for item in text.strip("[]()").split(",") if item.strip()]
        return origin(_value(arguments[0], item, key) for item in items)
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"{key} must be true or false, not '{text}'")
        return text.lower() == "true"
    try:
        return {int: whole_of, float: number_of}.get(hint, hint)(text)
    except (TypeError, ValueError):
        kind = "a whole number" if hint is int else "a number" if hint is float else hint.__name__
        raise ConfigError(f"{key} must be {kind}, not '{text}'") from None
