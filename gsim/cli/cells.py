"""The cells of a multirun, composed by Hydra: the product of what an experiment and the command line sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as own

from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from gsim.cli.compose import plain
from gsim.core import ConfigError
from gsim.run.settings import Settings, read_seeds
from gsim.study.axes import Entry, command_line_axis, read_axes
from gsim.study.grid import Cell, Grid, gridded, lookup
from gsim.study.literal import literal


def grid(hydra: Hydra, config: DictConfig, overrides: Sequence[str]) -> Grid:
    """All cells. A list on the command line replaces the experiment's axis of that field.

    Raises ``ConfigError`` (or Hydra's own error) where any cell cannot be composed, before anything runs.
    """
    parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(list(overrides))
    values = plain(config, missing_ok=True)
    axes = read_axes(values.get("sweep"))
    fixed: list[str] = []
    for override in parsed:
        field = override.get_key_element()
        if override.is_sweep_override():
            axes[field] = command_line_axis(field, _swept_texts(override), str(override.input_line))
        else:
            axes.pop(field, None)
            fixed.append(str(override.input_line))
    # Hydra keeps its own overrides in the main configuration and repeats them for each job.
    fixed = [text for text in fixed if not text.lstrip("+~").startswith(("hydra.", "hydra/"))]
    # What the command line sets, it sets for every entry.
    given = {override.get_key_element() for override in parsed}
    made = tuple(axis if axis.name in given else axis.without(given) for axis in axes.values())
    composer = _Composer(hydra, config, fixed)
    return gridded(made, [str(field) for field in values["compare"]], composer.cell)


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

    def cell(self, entries: Sequence[Entry]) -> Cell:
        swept = {field: value for entry in entries for field, value in entry.values.items()}
        # Groups first: an option replaces its whole node, a field then changes the new one.
        options = [f"{name}={literal(value)}" for name, value in swept.items() if "." not in name]
        fields = [f"{name}={literal(value)}" for name, value in swept.items() if "." in name]
        # A list or a mapping (a pool's instances) is typed by Hydra alone, so each is composed.
        nested = {name for name, value in swept.items() if isinstance(value, list | tuple | dict)}
        key = (*options, *(text if name in nested else name for text in fields if (name := text.partition("=")[0])))
        if key not in self.composed:
            overrides = [*self.fixed, *options, *fields]
            self.composed[key] = self.hydra.config_loader.load_sweep_config(self.config, overrides)
        else:
            update_fields(self.composed[key], [text for text in fields if text.partition("=")[0] not in nested])
        values = plain(self.composed[key])
        found = {name: lookup(values, name) for name in swept}
        settings, seeds = Settings.read(values), read_seeds(values["seeds"])
        return Cell((*self.fixed, *options, *fields), found, settings, seeds, entries=tuple(entries))


def update_fields(config: DictConfig, fields: Sequence[str]) -> None:
    """Apply overrides of single fields to a composed configuration (typed: a wrong value raises Hydra's own error)."""
    for override in OverridesParser.create().parse_overrides(list(fields)):
        OmegaConf.update(config, override.get_key_element(), override.value(), merge=False)
