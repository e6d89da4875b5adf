"""The axes of a sweep: what an experiment or the command line varies, and which policies its entries are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gsim.core import ConfigError
from gsim.run.options import RUN_GROUPS
from gsim.study.literal import Literal


@dataclass(frozen=True)
class Entry:
    """One value of an axis: the fields and groups that it sets together, and its name where it has one."""

    values: Mapping[str, Any]
    label: str = ""
    """The policy that this entry is, in tables and figures; a labelled entry is one policy, whatever it sets."""

    @classmethod
    def read(cls, axis: str, given: Any) -> Entry:
        """``value``, ``{field: value, ..., label: NAME}``, or an option as ``config.yaml`` shows it:
        ``{name: OPTION, field: value}``."""
        if not isinstance(given, Mapping):
            return cls({axis: given})
        label = given.get("label")
        values: dict[str, Any] = {}
        for key, value in given.items():
            if key == "label":
                continue
            if key in RUN_GROUPS and isinstance(value, Mapping):
                values |= _option(str(key), value)
            elif axis in RUN_GROUPS and key != axis and key not in RUN_GROUPS and "." not in str(key):
                values |= _option(axis, {key: value})
            else:
                values[str(key)] = value
        return cls(values, "" if label is None else str(label))

    def without(self, fields: set[str]) -> Entry:
        """The entry without what the command line sets for all of them."""
        return replace(self, values={key: value for key, value in self.values.items() if key not in fields})

    def plain(self) -> dict[str, Any]:
        """As an experiment file has it."""
        return {**({"label": self.label} if self.label else {}), **self.values}


def _option(group: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """An option, its fields: the predictor ``{name: noisy, error: 0.3}`` is ``predictor`` and ``predictor.error``."""
    return {group if key == "name" else f"{group}.{key}": value for key, value in fields.items()}


@dataclass(frozen=True)
class Axis:
    """A field or a group, and its entries; every combination of the axes' entries is a cell."""

    name: str
    entries: tuple[Entry, ...]

    @property
    def labelled(self) -> bool:
        """Whether any entry has a name: then all of its entries are policies."""
        return any(entry.label for entry in self.entries)

    @property
    def fields(self) -> tuple[str, ...]:
        """Everything that any entry sets."""
        return tuple(dict.fromkeys(field for entry in self.entries for field in entry.values))

    def without(self, fields: set[str]) -> Axis:
        """The axis without what the command line sets for all entries; entries that are equal then are one."""
        kept = [entry.without(fields) for entry in self.entries]
        return replace(self, entries=tuple(entry for i, entry in enumerate(kept) if entry not in kept[:i]))


def read_axes(sweep: Any) -> dict[str, Axis]:
    """The axes of a ``sweep`` by name; raises ``ConfigError`` that says what a sweep looks like."""
    if not sweep:
        return {}
    if not isinstance(sweep, Mapping):
        raise ConfigError(
            f"sweep must map a field or group to a list of values ({{router: [random, fastest]}}), not {sweep!r}"
        )
    axes = {}
    for name, entries in sweep.items():
        if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
            raise ConfigError(f"sweep.{name} must be a list of one value or more, not {entries!r}")
        axes[str(name)] = Axis(str(name), tuple(Entry.read(str(name), entry) for entry in entries))
    return axes


def command_line_axis(name: str, texts: Sequence[str], said: str) -> Axis:
    """The axis of a list on the command line, its values in Hydra's own syntax."""
    if not texts:
        raise ConfigError(f"{said}: there is no value in it, so there would be nothing to run")
    return Axis(name, tuple(Entry({name: Literal(text)}) for text in dict.fromkeys(texts)))


def check_axes(axes: Sequence[Axis]) -> None:
    """Raises ``ConfigError`` where a label names two policies, or two axes set the same field."""
    owners: dict[str, Axis] = {}
    for axis in axes:
        labels = [entry.label for entry in axis.entries if entry.label]
        twice = next((label for i, label in enumerate(labels) if label in labels[:i]), None)
        if twice is not None:
            raise ConfigError(f"sweep.{axis.name}: two entries are labelled '{twice}'; a label names one policy")
        for field in axis.fields:
            other = owners.setdefault(field, axis)
            if other is not axis:
                raise ConfigError(
                    f"sweep: {field} is set by '{other.name}' and by '{axis.name}'; one of them must leave it"
                )
