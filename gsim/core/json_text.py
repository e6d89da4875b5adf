"""JSON as people and programs write it: whatever cannot be used is a ``ValueError`` that says why."""

from __future__ import annotations

import json
from typing import Any

#: As in YAML files (``plain_yaml``): what fits 64 bits, and converts to a float.
_MOST_DIGITS = 18


def parsed_json(text: str) -> Any:
    """The value that a JSON text holds.

    Raises ``ValueError`` for what is no JSON, for nesting that no reader follows (Python's own stops with a
    ``RecursionError``), and for whole numbers of more than 18 digits, which overflow wherever they are computed with.
    """
    try:
        return json.loads(text, parse_int=_whole)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > _MOST_DIGITS:
        raise ValueError(f"{digits[:_MOST_DIGITS]}... has {len(digits.lstrip('-'))} digits; allowed: {_MOST_DIGITS}")
    return int(digits)
