"""What a caller says of a run, by the names of the command line, made into its configuration."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gsim.core import ConfigError
from gsim.library.objects import choice_of
from gsim.run.options import RUN_GROUPS
from gsim.run.settings import Settings

#: Values of a run that belong to no group.
TOP_LEVEL = ("warmup_s", "until_s", "count", "drain_s", "goodput", "max_hold_s", "limit")


@dataclass(frozen=True)
class Given:
    """Options (names or objects) by group, their fields, and top-level values; what is not said has its default."""

    options: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Group -> field -> value, nested fields as nested mappings."""
    top: Mapping[str, Any] = field(default_factory=dict)

    def but(self, values: Mapping[str, Any]) -> Given:
        """With more said: ``router="random"``, ``trace={"rate_per_s": 60}``, ``{"trace.rate_per_s": 60}``, objects.

        Groups first: another option takes the fields along that were said of the one before, fields then change the
        new one. Raises ``ConfigError`` for a name that there is not.
        """
        options, fields, top = dict(self.options), {k: dict(v) for k, v in self.fields.items()}, dict(self.top)
        for name, value in sorted(values.items(), key=lambda item: "." in item[0]):
            group, _, rest = name.partition(".")
            if group in RUN_GROUPS and rest:
                fields[group] = _merged(fields.get(group, {}), _nested(rest, value))
            elif group in RUN_GROUPS:
                _say_group(options, fields, group, value)
            elif group in TOP_LEVEL:
                top[group] = _merged(top.get(group, {}), _nested(rest, value)) if rest else value
            else:
                raise ConfigError(_unknown(name))
        return Given(options, fields, top)

    def settings(self) -> Settings:
        """The configuration; raises ``ConfigError`` on what cannot be simulated."""
        choices = {
            group: choice_of(group, self.options.get(group, default), self.fields.get(group, {}))
            for group, default in RUN_GROUPS.items()
        }
        said = "slo" in self.options or "slo" in self.fields
        if not said and getattr(choices["trace"].given, "has_objectives", False):
            # What the requests bring with them holds, where nobody asked for anything else.
            choices["slo"] = choice_of("slo", "trace", {})
        return Settings.read({**choices, **self.top})


def _say_group(options: dict[str, Any], fields: dict[str, dict[str, Any]], group: str, value: Any) -> None:
    own = dict(value) if isinstance(value, Mapping) else {"name": value}
    if "name" in own:
        if group in options:
            fields.pop(group, None)
        options[group] = own.pop("name")
    if own:
        fields[group] = _merged(fields.get(group, {}), own)


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    name, _, rest = dotted.partition(".")
    return {name: _nested(rest, value) if rest else value}


def _merged(first: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(first)
    for name, value in then.items():
        before = found.get(name)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        found[name] = _merged(before, value) if both else value  # type: ignore[arg-type]
    return found


def _unknown(name: str) -> str:
    allowed = [*RUN_GROUPS, *TOP_LEVEL]
    close = difflib.get_close_matches(name, allowed, 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"unknown name '{name}'{hint}; there are: {', '.join(allowed)}, and their fields (trace.rate_per_s)"
