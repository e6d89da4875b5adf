"""One chosen option of a group: by its name and fields, or an object that a Python caller has made."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gsim.core import ConfigError
from gsim.core.construct import construct
from gsim.core.registry import making
from gsim.run.options import options

#: Groups whose objects keep what they learn in a run: every run gets a copy of an object that was given.
_LEARNING = ("router", "predictor", "estimator", "rectifier", "mechanism", "handover", "scaler")


@dataclass(frozen=True)
class Choice:
    """One chosen option of a group and its fields, as plain values (policies keep state: every run builds its own)."""

    group: str
    name: str
    fields: Mapping[str, Any]
    given: Any = dataclasses.field(default=None, compare=False)
    """An object in the option's place; its run has no key, since nothing says what the object is."""

    @classmethod
    def read(cls, group: str, values: Any) -> Choice:
        """From ``{name: ..., **fields}``, or a choice as it is; raises ``ConfigError`` that lists the options."""
        if isinstance(values, cls):
            return values
        if not isinstance(values, Mapping) or "name" not in values:
            raise ConfigError(f"{group} must be one of its options, not {values!r}; see python -m gsim --help")
        known = options(group)
        name = str(values["name"])
        if name not in known:
            raise ConfigError(f"unknown {group} '{name}'; there are: {', '.join(known)}")
        return cls(group, name, {key: value for key, value in values.items() if key != "name"})

    @property
    def config(self) -> type | None:
        """The dataclass of its fields (of an object: its class); None for an option that is nothing."""
        return options(self.group)[self.name].config if self.given is None else type(self.given)

    def build(self) -> Any:
        """A fresh object (None for an option that is nothing)."""
        if self.given is not None:
            return self._copied() if self.group in _LEARNING else self.given
        if self.config is None:
            return None
        fields = dict(self.fields)
        if any(f.name == "name" for f in dataclasses.fields(self.config)):
            fields["name"] = self.name
        with making(self.group, self.name):
            return construct(self.config, fields, self.group)

    def _copied(self) -> Any:
        try:
            return copy.deepcopy(self.given)
        except Exception as error:
            raise ConfigError(
                f"{self.group} {type(self.given).__name__} cannot be copied, and every run gets a copy of its own "
                f"({type(error).__name__}: {error}); what holds a file, a lock or a process is made when it is needed"
            ) from error

    @property
    def told(self) -> str:
        """What tells it from other choices in this process: the option's name, for an object with its identity."""
        return self.name if self.given is None else f"{self.name} at {id(self.given):x}"
