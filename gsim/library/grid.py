"""The grid of a sweep that a caller gives: lists of names, mappings and objects, made into cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gsim.core import ConfigError
from gsim.library.given import Given
from gsim.library.objects import Own, by_name, name_of
from gsim.run.options import RUN_GROUPS
from gsim.study.axes import Axis, Entry, read_axes
from gsim.study.grid import Cell, Grid, gridded, lookup, single_cell


def grid_of(asked: Mapping[str, Sequence[Any]], base: Given, seeds: tuple[int, ...], compare: Sequence[str]) -> Grid:
    """All cells of what is ``asked``, each of these seeds; raises ``ConfigError`` where any cannot be composed."""
    if not asked:
        return Grid((single_cell(base.settings(), seeds, compare),))
    entries = {axis: [_entry(axis, value) for value in _listed(axis, values)] for axis, values in asked.items()}
    made = [_told_apart(axis) for axis in read_axes(entries).values()]

    def cell(entries: Sequence[Entry]) -> Cell:
        values = {name: value for entry in entries for name, value in entry.values.items()}
        settings = base.but(values).settings()
        plain = settings.plain()
        return Cell((), {name: lookup(plain, name) for name in values}, settings, seeds, entries=tuple(entries))

    return gridded(made, list(compare), cell)


def _listed(axis: str, entries: Any) -> list[Any]:
    """A list of any kind (NumPy's too) as one."""
    if isinstance(entries, str | Mapping) or not hasattr(entries, "__iter__"):
        raise ConfigError(f"grid['{axis}'] must be a list of values, not {entries!r}")
    return [entry.item() if hasattr(entry, "item") and not hasattr(entry, "columns") else entry for entry in entries]


def _entry(axis: str, value: Any) -> Any:
    """An entry of an axis with every object that has a name under it, as a mapping of its fields."""
    if isinstance(value, Mapping) and "label" in value:
        return {name: _named(name, own) for name, own in value.items()}
    return _named(axis, value)


def _named(group: str, value: Any) -> Any:
    if group not in RUN_GROUPS or value is None or isinstance(value, str | Mapping):
        return value
    known = by_name(group, value)
    return value if known is None else {"name": known[0], **known[1]}


def _told_apart(axis: Axis) -> Axis:
    """The axis with a name for every object, and a number where two without a label have the same one."""
    group = axis.name
    seen: Counter[str] = Counter()
    entries = []
    for entry in axis.entries:
        value = entry.values.get(group)
        if group in RUN_GROUPS and value is not None and not isinstance(value, str | Mapping):
            name = name_of(value)
            seen[name] += not entry.label
            number = f" {seen[name]}" if seen[name] > 1 and not entry.label else ""
            entry = Entry({**entry.values, group: Own(name + number, value)}, entry.label)
        entries.append(entry)
    return Axis(axis.name, tuple(entries))
