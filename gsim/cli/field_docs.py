"""The fields of an option for people: name, type, default and meaning."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from gsim.core.meanings import Said, said_of


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
    said = said_of(config)
    own = values or {}
    found = []
    for field in dataclasses.fields(config):
        if field.init and field.name != "name":
            kind, meaning = said.get(field.name, Said(str(field.type), ""))
            found.append(FieldDoc(field.name, kind, _default(field, own), meaning))
    return found


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
    return re.sub(r",(?! )", ", ", text) if isinstance(made, dict | list) else text
