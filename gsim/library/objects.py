"""Options of a group as a caller may give them: names, objects of registered classes, any other object that fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gsim.core import ConfigError, registry
from gsim.library.own_pool import own_pool
from gsim.library.own_trace import own_trace
from gsim.run.choice import Choice
from gsim.run.options import options
from gsim.run.schema import plain_value
from gsim.run.typed import defaults, filled

#: What an object must be able to do, to stand in a group's place.
_METHODS: Mapping[str, str] = {
    "router": "route",
    "predictor": "predict",
    "estimator": "attach",
    "rectifier": "review",
    "scaler": "review",
    "trace": "sessions",
    "slo": "slo_s",
    "pool": "build",
    "dynamics": "apply",
}


@dataclass(frozen=True)
class Own:
    """An object that a sweep has given a name, to tell it from others of its class."""

    name: str
    value: Any


def choice_of(group: str, option: Any, fields: Mapping[str, Any]) -> Choice:
    """The choice of an option (a name, an object; None: ``none``) with these fields.

    Raises ``ConfigError`` that lists the options, or the fields, or says what an object lacks.
    """
    if isinstance(option, Choice):
        return option
    option = "none" if option is None else option
    if isinstance(option, str):
        return _of_name(group, option, fields)
    named = by_name(group, option)
    if named is not None:
        return _of_name(group, named[0], {**named[1], **fields})
    if fields:
        raise ConfigError(f"{group}.{next(iter(fields))}: {group} is an object, and has its own fields")
    return _of_object(group, option)


def by_name(group: str, given: Any) -> tuple[str, dict[str, Any]] | None:
    """The name and fields by which an object can be chosen; None for one whose class is not an option of the group."""
    for name, option in options(group).items():
        if option.config is type(given) and _builds_itself(group, name):
            fields = plain_value(given)
            return str(fields.pop("name", name)), fields
    return None


def _builds_itself(group: str, name: str) -> bool:
    """The object is what its fields build (an engine's options also need a profile: any of its names will do)."""
    entry = registry.registered(group).get(name)
    return entry is None or entry.cls is entry.config or any(f.name == "name" for f in dataclasses.fields(entry.config))


def _of_name(group: str, name: str, fields: Mapping[str, Any]) -> Choice:
    known = options(group)
    if name not in known:
        raise ConfigError(f"unknown {group} '{name}'; there are: {', '.join(known)}")
    option = known[name]
    if option.config is None:
        if fields:
            raise ConfigError(
                f"{group}={name} has no field '{next(iter(fields))}'; {_who_has(group, next(iter(fields)))}"
            )
        return Choice(group, name, {})
    base = {**defaults(option.config), **plain_value(option.values)}
    own = filled(option.config, base, fields, group)
    return Choice(group, name, {key: value for key, value in own.items() if key != "name"})


def _who_has(group: str, field: str) -> str:
    """The options of a group that have a field, for an error about one that has none at all."""
    having = [o.name for o in options(group).values() if o.config and field in {f.name for f in _all_fields(o.config)}]
    return f"{group}={', '.join(having)} has: name it with the field" if having else "it has none"


def _all_fields(config: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(config) if dataclasses.is_dataclass(config) else ()


def _of_object(group: str, option: Any) -> Choice:
    name, given = (option.name, option.value) if isinstance(option, Own) else ("", option)
    if isinstance(given, type):
        raise ConfigError(f"{group} is the class {given.__name__}; give an object: {given.__name__}(...)")
    made = {"trace": own_trace, "pool": own_pool}.get(group, lambda it: it)(given)
    method = _METHODS.get(group, "")
    if not callable(getattr(made, method, None)):
        needs = f"an object with a method '{method}'" if method else "an object of an option's class"
        raise ConfigError(f"{group} must be an option's name, a mapping of its fields, or {needs}; not {given!r}")
    return Choice(group, name or name_of(given), _fields(made), made)


def name_of(given: Any) -> str:
    """What an object is called: its class, with the fields that are not as by default."""
    own = _fields(given)
    usual = defaults(type(given)) if own else {}
    told = ", ".join(f"{name}={value}" for name, value in own.items() if value != usual.get(name))
    return f"{type(given).__name__}({told})" if told else type(given).__name__


def _fields(given: Any) -> dict[str, Any]:
    if not dataclasses.is_dataclass(given):
        return {}
    shown = [field for field in dataclasses.fields(given) if field.init and field.compare]
    return {field.name: plain_value(getattr(given, field.name)) for field in shown}
