"""The grid of a multirun: its cells, and how they were swept."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from gsim.core import ConfigError
from gsim.run.key import key_of
from gsim.run.options import RUN_GROUPS
from gsim.run.settings import Settings, read_seeds
from gsim.study.axes import Axis, Entry, check_axes
from gsim.study.policies import labels, policy_fields

#: The fields that are compared where nothing else is asked: a line of the figure each, and paired.
COMPARED = ("router", "rectifier")


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
    """The policy's name in tables and figures."""
    policy: frozenset[str] = frozenset()
    """The swept fields that belong to the policy; the others make the grid point."""
    entries: tuple[Entry, ...] = ()
    """The entry of every axis that made this cell."""

    @property
    def point(self) -> dict[str, Any]:
        """The swept fields that are not compared: the cell's grid point."""
        return {field: value for field, value in self.swept.items() if field not in self.policy}

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


@dataclass(frozen=True)
class Grid:
    """The cells of a sweep, the last axis fastest, and the axes that made them."""

    cells: tuple[Cell, ...]
    axes: tuple[Axis, ...] = ()

    def described(self) -> dict[str, list[Any]] | None:
        """The axes as an experiment file would have them, with the values that were run (None: nothing was swept)."""
        found: dict[str, list[Any]] = {}
        for i, axis in enumerate(self.axes):
            shown: list[Any] = []
            for cell in self.cells:
                entry = cell.entries[i]
                plain_entry = not entry.label and list(entry.values) == [axis.name]
                made = cell.swept[axis.name] if plain_entry else _resolved(entry, cell)
                if made not in shown:
                    shown.append(made)
            found[axis.name] = shown
        return found or None

    def chosen(self, policy: str | None = None) -> Cell:
        """The one cell of this policy (of the only policy); raises ``ConfigError`` that asks for what is open."""
        cells = [cell for cell in self.cells if policy in (None, cell.label)]
        if len(cells) == 1:
            return cells[0]
        if not cells:
            there = ", ".join(dict.fromkeys(cell.label for cell in self.cells))
            raise ConfigError(f"policy={policy}: there is none; the policies are: {there}")
        raise ConfigError(self.ask(policy))

    def ask(self, policy: str | None = None) -> str:
        """What must be said to choose one cell: the policy, and a value of every axis."""
        labels = list(dict.fromkeys(cell.label for cell in self.cells))
        open_fields = {
            field: list(dict.fromkeys(str(cell.point[field]) for cell in self.cells if field in cell.point))
            for field in dict.fromkeys(field for cell in self.cells for field in cell.point)
        }
        asked = [f"policy=... ({', '.join(labels)})"] if policy is None and len(labels) > 1 else []
        asked += [f"{field}=... ({', '.join(values)})" for field, values in open_fields.items() if len(values) > 1]
        return (
            f"this sweep has {len(self.cells)} cells; say which one with python -m gsim explain, timeline or page, and "
            f"{' and '.join(asked)}"
        )


def _resolved(entry: Entry, cell: Cell) -> dict[str, Any]:
    return {key: value if key == "label" else cell.value(key) for key, value in entry.plain().items()}


def gridded(axes: Sequence[Axis], compared: Sequence[str], make: Callable[[Sequence[Entry]], Cell]) -> Grid:
    """All combinations of the axes' entries, each a cell that ``make`` composes, named by what is compared.

    Raises ``ConfigError`` where the axes contradict one another or a name has two policies.
    """
    check_axes(axes)
    cells = [make(entries) for entries in itertools.product(*(axis.entries for axis in axes))]
    fields = list(dict.fromkeys(field for cell in cells for field in cell.swept))
    cells = [replace(cell, swept={field: cell.value(field) for field in fields}) for cell in cells]
    return Grid(tuple(named(cells, axes, compared)), tuple(axes))


def single(values: Mapping[str, Any]) -> Grid:
    """The one cell of a configuration that sweeps nothing."""
    compared = [str(field) for field in values["compare"]]
    return Grid((single_cell(Settings.read(values), read_seeds(values["seeds"]), compared),))


def single_cell(settings: Settings, seeds: tuple[int, ...], compared: Sequence[str] = COMPARED) -> Cell:
    """A cell that is no part of a sweep."""
    return named([Cell((), {}, settings, seeds)], (), compared)[0]


def named(cells: Sequence[Cell], axes: Sequence[Axis], compared: Sequence[str]) -> list[Cell]:
    """The cells with their policies' names, equal cells once; raises ``ConfigError`` where a name has two policies."""
    fields = policy_fields(axes, compared, list(cells[0].swept))
    found: dict[tuple[str, str], Cell] = {}
    for cell, label in zip(cells, labels(cells, axes, compared, fields), strict=True):
        own_cell = replace(cell, label=label, policy=fields)
        first = found.setdefault((label, repr(own_cell.point)), own_cell)
        if first is not own_cell and first.settings.plain() != own_cell.settings.plain():
            raise ConfigError(f"two policies are called '{label}'; give each entry of the sweep a label of its own")
    return list(found.values())
