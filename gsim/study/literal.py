"""Values in the syntax of the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class Literal(str):
    """Text that is in Hydra's override syntax already."""

    __slots__ = ()


def literal(value: Any) -> str:
    """A value in Hydra's override syntax."""
    if isinstance(value, Literal):
        return str(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(literal(item) for item in value) + "]"
    if isinstance(value, str):
        return value if value.replace("_", "").isalnum() else json.dumps(value)
    return repr(value)
