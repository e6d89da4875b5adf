"""A run's key: it changes with whatever the run depends on, and with nothing else.

What a run depends on is its configuration (defaults filled in), the files that the configuration names, the source of
the classes that it uses with all that they import, and its seed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gsim.core import ConfigError, registry
from gsim.run.closure import sources
from gsim.run.inputs import input_digests
from gsim.run.options import options
from gsim.run.schema import plain_value
from gsim.run.typed import defaults

#: What computes a run: with all that it imports it is part of every run.
RUN = "gsim.run.cell"
#: What makes the plan of a router that decides before the run. Named here, not imported there: a run whose router
#: decides online does not depend on it.
PLANNER = "gsim.run.planning"
#: What chooses a window where none is given, likewise.
PILOT = "gsim.run.warmup"
PILOT_POLICIES = ("gsim.routing.least_load", "gsim.prediction.constant", "gsim.estimation.nominal")

Chosen = tuple[str, Mapping[str, Any]]
"""An option's name, and its fields as plain values."""


def digest_of(*values: Any) -> str:
    """A short digest of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:20]


def key_of(basis: str, seed: int) -> str:
    """The key of the run with this seed, from what all seeds share."""
    return digest_of(basis, seed)


def resolved(group: str, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A choice's fields as plain values, with the defaults of those that are not given."""
    option = options(group)[name]
    own = {} if option.config is None else defaults(option.config)
    return {**own, **plain_value(option.values), **plain_value(fields)}


def code_digest(chosen: Mapping[str, Chosen], *starts: str) -> str:
    """A digest of the code of a run with these choices (group -> option's name and fields).

    ``starts`` are the modules that it begins with (default: what computes a run).
    """
    return sources().digest({*(starts or (RUN,)), *_modules(chosen), *_silent_extensions()})


def _modules(chosen: Mapping[str, Chosen]) -> Iterator[str]:
    """The modules of the chosen classes, and of classes that their fields name (a plan's starts ...)."""
    for group, (name, fields) in chosen.items():
        option = options(group)[name]
        if option.config is not None:
            yield option.config.__module__
        for entry in _registered(name, (group,)):
            yield from (entry.cls.__module__, entry.config.__module__)
            if getattr(entry.cls, "offline", False):
                yield PLANNER
        for text in _texts(fields):
            for entry in _registered(text, registry.groups()):
                yield from (entry.cls.__module__, entry.config.__module__)


def _registered(name: str, groups: Iterable[str]) -> Iterator[registry.Entry]:
    for group in groups:
        entry = registry.registered(group).get(name)
        if entry is not None:
            yield entry


def _silent_extensions() -> Iterator[str]:
    """Extension files that register nothing: what else they do, they do to every run."""
    speaking = {entry.cls.__module__ for group in registry.groups() for entry in registry.registered(group).values()}
    for name in list(sys.modules):
        if name.startswith("gsim_extension_") and name not in speaking:
            yield name


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def inputs_digest(chosen: Mapping[str, Chosen]) -> str:
    """A digest of all files that these choices name, in fields or (extensions) as ``inputs`` of their class."""
    values = {group: fields for group, (_, fields) in chosen.items()}
    extensions: set[str] = set()
    stated: list[str] = []
    for group, (name, fields) in chosen.items():
        for entry in _registered(name, (group,)):
            if entry.cls.__module__.partition(".")[0] != "gsim":
                extensions.add(group)
            stated += _stated_inputs(entry)
        for text in _texts(fields):
            for entry in _registered(text, registry.groups()):
                stated += _stated_inputs(entry)
    return digest_of(input_digests(values, extensions, stated))


def _stated_inputs(entry: registry.Entry) -> tuple[str, ...]:
    """``inputs: ClassVar[tuple[str, ...]]``: files and folders that an extension reads beside those in its fields.

    Raises ``ConfigError`` for anything but existing paths; a field of this name is a field as any other.
    """
    stated = getattr(entry.cls, "inputs", ())
    if callable(stated) or "inputs" in {field.name for field in dataclasses.fields(entry.config)}:
        return ()
    where = f"{entry.group} '{entry.name}': inputs"
    if not isinstance(stated, tuple) or not all(isinstance(item, str) for item in stated):
        raise ConfigError(f"{where} must be a tuple of paths, not {stated!r}")
    for item in stated:
        if not os.path.exists(item):
            raise ConfigError(f"{where}: there is no file or folder {item}")
    return stated
