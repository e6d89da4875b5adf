"""The grid of a multirun: its cells, and how they were swept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gsim.core import ConfigError
from gsim.run.key import key_of
from gsim.run.options import RUN_GROUPS
from gsim.run.settings import Settings


@dataclass(frozen=True)
class Cell:
    """A grid point and a policy: one configuration, all its seeds."""

    overrides: tuple[str, ...]
    """What makes it on the command line."""
    swept: Mapping[str, Any]
    """Swept field -> its value here, in the grid's order."""
    settings: Settings
    seeds: tuple[int, ...]

    label: str = ""
    """The policy's name in figures, where the experiment gives one."""

    def value(self, field: str) -> Any:
        """The value of a field here (of a group: the option's name); None where the chosen option has no such field."""
        group, _, rest = field.partition(".")
        plain_settings = self.settings.plain()
        if rest and group in RUN_GROUPS and rest.split(".")[0] not in plain_settings[group]:
            return None
        return lookup(plain_settings, field)

    @cached_property
    def code(self) -> str:
        """The digest of the code of the cell's runs, as it was when it was asked for first."""
        return self.settings.code()

    @cached_property
    def keys(self) -> list[str]:
        """The content addresses of the cell's runs, one per seed, as they were when they were asked for first."""
        basis = self.settings.basis(self.code)
        return [key_of(basis, seed) for seed in self.seeds]


def lookup(values: Mapping[str, Any], field: str) -> Any:
    """A field of a plain configuration by its dotted name; a group's value is its option's name."""
    found: Any = values
    for part in field.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise ConfigError(f"the configuration has no field '{field}'")
        found = found[part]
    return found["name"] if isinstance(found, Mapping) and field in RUN_GROUPS else found


def resolved_sweep(sweep: Mapping[str, Any], cells: Sequence[Cell]) -> dict[str, list[Any]]:
    """The axes as they were swept: what the command line replaced or fixed, and fields of entries left out."""
    labels = {cell.label for cell in cells}
    together = {key for entries in sweep.values() for entry in entries if isinstance(entry, Mapping) for key in entry}
    found: dict[str, list[Any]] = {}
    for field in dict.fromkeys([*sweep, *cells[0].swept]):
        values = [cell.swept.get(field) for cell in cells]
        entries = [entry for entry in sweep.get(field, ()) if isinstance(entry, Mapping)]
        named = [entry for entry in sweep.get(field, ()) if _is_here(entry, labels, values)]
        if any(entry in named for entry in entries):
            found[field] = named
        elif field not in together or field in sweep:
            found[field] = [value for i, value in enumerate(values) if value is not None and value not in values[:i]]
    return {field: values for field, values in found.items() if values}


def _is_here(entry: Any, labels: set[str], values: Sequence[Any]) -> bool:
    if not isinstance(entry, Mapping):
        return entry in values
    label = str(entry.get("label", ""))
    return label in labels if label else any(value in values for value in entry.values())
