"""An experiment file as ``gsim.sweep`` takes it: its grid, what its runs share, its seeds and its figure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from gsim.core import ConfigError
from gsim.library.given import TOP_LEVEL
from gsim.run.options import RUN_GROUPS
from gsim.study.experiments import Experiment, read_experiments
from gsim.study.grid import COMPARED

#: What an experiment says to the command line, or to those who read it.
_TOLD = ("sweep", "seeds", "compare", "figure", "small", "question", "paper", "name", "bound", "knee")


@dataclass(frozen=True)
class Asked:
    """What an experiment asks for."""

    grid: Mapping[str, Sequence[Any]]
    values: Mapping[str, Any]
    """Groups, fields and top-level values that all of its runs share."""
    seeds: int | list[int]
    compare: Sequence[str]
    figure: Mapping[str, Any]


def experiment_of(name: str, small: bool) -> Asked:
    """The experiment of this name (``./experiments`` first), with its quick version's changes where it is ``small``.

    Raises ``ConfigError`` for one that is no plain grid of runs: those are the command line's.
    """
    found = read_experiments({*RUN_GROUPS, "study"})
    if name not in found:
        close = difflib.get_close_matches(name, found, 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ConfigError(f"no experiment '{name}'{hint}; there are: {', '.join(found)}")
    experiment = found[name]
    _check_grid(experiment)
    grid, values = dict(experiment.values.get("sweep") or {}), _shared(experiment)
    seeds: Any = experiment.values.get("seeds", 5)
    for field, value in (experiment.values.get("small") or {}).items() if small else ():
        if field == "seeds":
            seeds = value
        elif isinstance(value, str) and "," in value:
            grid[field] = yaml.safe_load(f"[{value}]")
        else:
            grid.pop(field, None)
            values[field] = value
    compare = [str(field) for field in experiment.values.get("compare") or COMPARED]
    return Asked(grid, values, seeds, compare, dict(experiment.values.get("figure") or {}))


def _check_grid(experiment: Experiment) -> None:
    said = experiment.values
    problem = (
        experiment.problem
        or ("it answers in a way of its own" if "study" in experiment.groups or "study" in said else "")
        or ("it looks for the knee first" if (said.get("knee") or {}).get("at") else "")
        or ("it computes bounds" if said.get("bound") else "")
    )
    if problem:
        name = experiment.name
        raise ConfigError(
            f"experiment '{name}': {problem}; run python -m gsim experiment={name}, and gsim.load its folder"
        )


def _shared(experiment: Experiment) -> dict[str, Any]:
    """The options first, then their fields, which are of the option that was chosen."""
    values: dict[str, Any] = {group: option for group, option in experiment.groups.items() if group in RUN_GROUPS}
    for name, value in experiment.values.items():
        if name in RUN_GROUPS:
            values[name] = {**({"name": values[name]} if name in values else {}), **value}
        elif name in TOP_LEVEL:
            values[name] = value
        elif name not in _TOLD:
            raise ConfigError(f"experiment '{experiment.name}': nothing in a sweep is called '{name}'")
    return values
