"""The words of a command line, as the shell gave them: text stays text, whatever the grammar of Hydra makes of it."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

from gsim.cli.compose import TOP_LEVEL
from gsim.core import ConfigError, registry
from gsim.run.options import RUN_GROUPS, options

_WORD = re.compile(r"(\+{0,2})([A-Za-z_][\w.]*)=(.*)", re.DOTALL)
#: What Hydra's grammar takes for a word: letters of one alphabet alone.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: What is in Hydra's own syntax already: quotes, lists, mappings, functions, nothing.
_SYNTAX = re.compile(r"""(["'\[{].*|[a-z_]+\(.*\)|null|\?\?\?|)""", re.DOTALL)
_NUMBER = re.compile(r"[+-]?\d[\d_]*(\.\d*)?")
_GROUPED = re.compile(r"[+-]?\d{1,3}(_\d{3})+(\.\d*)?")
_TEXT_KEYS = ("name", "out", "goodput", "question", "paper")
_NOT_THERE = re.compile(r"Could not override '([\w.]+)'")
_NOT_IN = re.compile(r"not in '(\w+)'\s+full_key: ([\w.]+)")
_NO_OPTION = re.compile(r"In 'config': Could not find '([\w/]+)/([^'/]+)'\s+Available options in '\1':\n((?:\t.*\n?)+)")
_NOT_FIELDS = re.compile(
    r"Error merging override ([\w.]+)=(.*)\s+Invalid type assigned: \w+ is not a subclass of (\w+)"
)

_NOT_A_LIST = re.compile(r"Error merging override ([\w.]+)=(.*)\s+Invalid value assigned: \w+ is not a ListConfig")


def as_given(words: Sequence[str]) -> list[str]:
    """The overrides with text in quotes where a field holds text: ``trace.path=données.csv``, ``name=1e3``.

    A list ``a.csv,b.csv`` stays a list of two. Raises ``ConfigError`` for a number such as ``1_02``.
    """
    return [_as_given(word) for word in words]


def _as_given(word: str) -> str:
    found = _WORD.fullmatch(word)
    if found is None:
        return word
    plus, key, value = found.groups()
    if _PLAIN.fullmatch(value) or _SYNTAX.fullmatch(value):
        _check_numbers(word, value)
        return word
    if not _holds_text(key):
        _check_numbers(word, value)
        return word
    pieces = [value] if Path(value).is_file() else value.split(",")
    return f"{plus}{key}={','.join(_quoted(piece.strip()) for piece in pieces)}"


def _quoted(piece: str) -> str:
    if _PLAIN.fullmatch(piece) or _SYNTAX.fullmatch(piece):
        return piece
    return str(QuotedString(piece, Quote.double).with_quotes())


def _check_numbers(word: str, value: str) -> None:
    if "_" not in value or '"' in value or "'" in value:
        return
    for token in re.split(r"[\s,:(){}\[\]]+", value):
        if _NUMBER.fullmatch(token) and "_" in token and not _GROUPED.fullmatch(token):
            raise ConfigError(f"{word}: '{token}' is no number; write {token.replace('_', '')}")


def _holds_text(key: str) -> bool:
    """Whether a field holds text, under every option that has it."""
    group, _, field = key.partition(".")
    if group in RUN_GROUPS:
        configs = [option.config for option in options(group).values() if option.config is not None]
        return bool(field) and _text_in(configs, field)
    if key in TOP_LEVEL:
        return key in _TEXT_KEYS
    return _text_in([entry.config for entry in registry.entries("study").values()], key)


def _text_in(configs: Sequence[type], field: str) -> bool:
    kinds = [kind for config in configs for kind in _kinds(config, field)]
    return bool(kinds) and all(kind in (str, Path) for kind in kinds)


def _kinds(config: type, field: str) -> Iterator[Any]:
    """The type of a field (of a nested one, by its dotted name), without ``None``; nothing where it is not there."""
    name, _, rest = field.partition(".")
    hint = typing.get_type_hints(config).get(name)
    if hint is None or name not in {f.name for f in dataclasses.fields(config)}:
        return
    kinds = [kind for kind in typing.get_args(hint) or (hint,) if kind is not type(None)]
    for kind in kinds if len(kinds) == 1 else [hint]:
        if not rest:
            yield kind
        elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
            yield from _kinds(kind, rest)


def unknown_key(message: str) -> str | None:
    """What is said of a key that there is not, in place of Hydra's advice to add it with ``+``; None: another error."""
    found = _NOT_THERE.search(message)
    return None if found is None else _told_unknown(found[1], message)


def unknown_option(message: str) -> str | None:
    """What is said of an option that its group has not, with what is close to it; None: another error."""
    found = _NO_OPTION.search(message)
    if found is None:
        return None
    group, name, listed = found.groups()
    allowed = listed.split()
    return f"{group} '{name}' is unknown{close_to(name, allowed)}; allowed: {', '.join(allowed)}"


def not_fields(message: str) -> str | None:
    """What is said of a plain value where a field has fields of its own; None: another error."""
    found = _NOT_FIELDS.search(message)
    fields = found and _nested_fields(found[1], found[3])
    if not found or not fields:
        return None
    return (
        f"{found[1]}={found[2]}: it has fields of its own: {', '.join(fields)}; write '{found[1]}={{{fields[0]}: ...}}'"
    )


def not_a_list(message: str) -> str | None:
    """What is said of a single value where a list belongs; None: another error."""
    found = _NOT_A_LIST.search(message)
    if found is None:
        return None
    inside = found[2] if re.fullmatch(r"[\w.+-]+", found[2]) else f'"{found[2]}"'
    return f"{found[1]}={found[2]}: it is a list; write '{found[1]}=[{inside}]'"


def _nested_fields(key: str, cls: str) -> list[str]:
    """The fields of the dataclass ``cls`` that is at ``key``, by its dotted name, under some option of the group."""
    group, _, path = key.partition(".")
    configs = [option.config for option in options(group).values()] if group in RUN_GROUPS and path else []
    for config in configs:
        for kind in _kinds(config, path) if config is not None else ():
            if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__name__ == cls:
                return [f.name for f in dataclasses.fields(kind) if f.init]
    return []


def close_to(word: str, allowed: Iterable[str]) -> str:
    """`` (did you mean ...?)`` where one of what is allowed is close to the word."""
    close = difflib.get_close_matches(word, list(allowed), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def _told_unknown(key: str, message: str) -> str:
    """The key, what is close to it, and what is allowed."""
    group, _, field = key.partition(".")
    within = _NOT_IN.search(message)
    nested = within and _nested_fields(within[2].rpartition(".")[0], within[1])
    if within and nested:
        at, _, name = within[2].rpartition(".")
        return f"{at} has no field '{name}'{close_to(name, nested)}; its fields are: {', '.join(nested)}"
    if group in RUN_GROUPS and field:
        typed = re.search(r"not in '(\w+)'", message)
        configs = {name: option.config for name, option in options(group).items() if option.config is not None}
        own = [config for config in configs.values() if typed is not None and config.__name__ == typed[1]]
        fields = sorted({f.name for config in own or configs.values() for f in dataclasses.fields(config) if f.init})
        others = [name for name, config in configs.items() if field.split(".")[0] in typing.get_type_hints(config)]
        if others and not own:
            ways = " or ".join(f"{group}={name}" for name in others[:5])
            return f"{key}: the option of {group} that is chosen has no fields; give {ways} too, which has '{field}'"
        told = f"{key}: {group} has no such field here; its fields are: {', '.join(fields) or 'none'}"
        return told + (f" ('{field}' is a field of {group}={', '.join(others[:5])})" if others and own else "")
    allowed = sorted({*TOP_LEVEL, *RUN_GROUPS, "experiment", "study"})
    inside = {f.name for study in registry.entries("study").values() for f in dataclasses.fields(study.config)}
    near = close_to(key, allowed) or close_to(key, sorted(inside))
    return (
        f"unknown key '{key}'{near}; allowed: {', '.join(allowed)}, and the fields of the experiment's study "
        "(python -m gsim --help study NAME)"
    )
