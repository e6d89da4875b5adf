"""Plain values as Hydra writes them on a command line, so that what is read back is what was meant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: What Hydra's grammar reads as a word without quotes, and as nothing else (no number, boolean or null).
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_WORDS = {"null", "true", "false", "inf", "nan"}


class Literal(str):
    """Text that is in Hydra's override syntax already."""

    __slots__ = ()


def literal(value: Any) -> str:
    """A value in Hydra's override syntax. Text stays text: ``1e3``, ``null``, ``it's``, ``${x}``."""
    if isinstance(value, Literal):
        return str(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{literal(key)}:{literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(literal(item) for item in value) + "]"
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) and value.lower() not in _NOT_WORDS else quoted(escaped(value))
    return repr(value)


def quoted(text: str) -> str:
    """Text in double quotes, as Hydra has them: a backslash is doubled before a quote and at the end only."""
    inside = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), text)
    return f'"{inside}"'


def escaped(text: str) -> str:
    """Text of which OmegaConf resolves nothing: ``${`` is written so that it stays as it is."""
    return re.sub(r"(\\*)\$\{", lambda found: f"{found[1] * 2}\\${{", text)
