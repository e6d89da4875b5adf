"""The grid of a multirun: which cells there are, and the Hydra overrides that make each of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as own
from functools import cached_property
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from gsim.cli.compose import plain
from gsim.core import ConfigError
from gsim.run.key import key_of
from gsim.run.options import RUN_GROUPS
from gsim.run.settings import Settings, read_seeds


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


def grid(hydra: Hydra, config: DictConfig, overrides: Sequence[str]) -> list[Cell]:
    """All cells, the last axis fastest. A list on the command line replaces the experiment's axis of that field.

    Raises ``ConfigError`` (or Hydra's own error) where any cell cannot be composed, before anything runs.
    """
    parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(list(overrides))
    axes: dict[str, list[dict[str, Any]]] = {}
    for field, entries in (plain_sweep(config)).items():
        axes[field] = [dict(entry) if isinstance(entry, Mapping) else {field: entry} for entry in entries]
    fixed: list[str] = []
    for override in parsed:
        field = override.get_key_element()
        if override.is_sweep_override():
            axes[field] = [{field: _Raw(text)} for text in _swept_texts(override)]
        else:
            axes.pop(field, None)
            fixed.append(str(override.input_line))
    # Hydra keeps its own overrides in the main configuration and repeats them for each job.
    fixed = [text for text in fixed if not text.lstrip("+~").startswith(("hydra.", "hydra/"))]
    # What the command line sets, it sets for every entry; entries that are equal then are one.
    given = {override.get_key_element() for override in parsed if not override.is_sweep_override()}
    for name, entries in axes.items():
        kept = [{key: value for key, value in entry.items() if key not in given} for entry in entries]
        axes[name] = [entry for i, entry in enumerate(kept) if entry not in kept[:i]]
    composer = _Composer(hydra, config, fixed)
    points = itertools.product(*axes.values())
    cells = [composer.cell({field: value for entry in point for field, value in entry.items()}) for point in points]
    fields = list(dict.fromkeys(field for cell in cells for field in cell.swept))
    return [replace(cell, swept={field: cell.value(field) for field in fields}) for cell in cells]


def plain_sweep(config: DictConfig) -> dict[str, list[Any]]:
    """The experiment's ``sweep`` as plain values."""
    sweep = plain(config).get("sweep") or {}
    return {str(field): list(entries) for field, entries in sweep.items()}


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


class _Raw(str):
    """Text that is in Hydra's override syntax already."""

    __slots__ = ()


def _swept_texts(override: Override) -> list[str]:
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: give the values one by one (a,b,c), range(...) or glob(...)")
    return [str(text) for text in override.sweep_string_iterator()]


@dataclass
class _Composer:
    """Composes cells: with Hydra once per combination of options, with typed updates for the fields in between.

    (Composing takes 50 to 100 ms, a grid has dozens of cells, and most of its axes change one number.)
    """

    hydra: Hydra
    config: DictConfig
    fixed: list[str]
    composed: dict[tuple[str, ...], DictConfig] = own(default_factory=dict)

    def cell(self, swept: Mapping[str, Any]) -> Cell:
        label = str(swept.get("label", ""))
        swept = {name: value for name, value in swept.items() if name != "label"}
        # Groups first: an option replaces its whole node, a field then changes the new one.
        options = [f"{name}={literal(value)}" for name, value in swept.items() if "." not in name]
        fields = [f"{name}={literal(value)}" for name, value in swept.items() if "." in name]
        key = (*options, *(name for name in swept if "." in name))
        if key not in self.composed:
            overrides = [*self.fixed, *options, *fields]
            self.composed[key] = self.hydra.config_loader.load_sweep_config(self.config, overrides)
        else:
            update_fields(self.composed[key], fields)
        values = plain(self.composed[key])
        found = {name: lookup(values, name) for name in swept}
        seeds = read_seeds(values["seeds"])
        return Cell((*self.fixed, *options, *fields), found, Settings.read(values), seeds, label)


def update_fields(config: DictConfig, fields: Sequence[str]) -> None:
    """Apply overrides of single fields to a composed configuration (typed: a wrong value raises Hydra's own error)."""
    for override in OverridesParser.create().parse_overrides(list(fields)):
        OmegaConf.update(config, override.get_key_element(), override.value(), merge=False)


def literal(value: Any) -> str:
    """A value in Hydra's override syntax."""
    if isinstance(value, _Raw):
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
