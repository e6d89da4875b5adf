"""Many runs, from a call to their comparison: ``gsim.sweep``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.core import ConfigError
from gsim.library.experiment import Asked, experiment_of
from gsim.library.extensions import Registered, known_extensions, unsaid
from gsim.library.given import Given
from gsim.library.grid import grid_of
from gsim.library.results import ResultsInMemory
from gsim.library.work import Work
from gsim.report.loading import Results, load
from gsim.report.outcome import Outcome
from gsim.report.report_run import check_fields, publish
from gsim.run.cell import compute, finish
from gsim.run.settings import Settings, read_seeds
from gsim.run.shelf import Shelf
from gsim.run.store import RunStore, writable
from gsim.study.folder import claimed
from gsim.study.grid import COMPARED, Cell, Grid
from gsim.study.missing import RUNS
from gsim.study.results import cell_result

if TYPE_CHECKING:
    import pyarrow as pa

Done = tuple[Mapping[str, Any], "pa.Table"]
"""A run's summary and its rows."""


def sweep(
    grid: Mapping[str, Sequence[Any]] | None = None,
    values: Mapping[str, Any] | None = None,
    *,
    experiment: str | None = None,
    small: bool = False,
    seeds: int | Sequence[int] | None = None,
    workers: int = 1,
    out: str | Path | None = None,
    name: str | None = None,
    compare: Sequence[str] | None = None,
    figure: Mapping[str, Any] | None = None,
    **further: Any,
) -> Results:
    """Simulate every combination of a grid under every seed, and compare the policies, paired by seed.

    ``grid`` maps a group or field to its values, as ``sweep`` in an experiment file: ``{"trace.rate_per_s": [40, 70],
    "router": ["goodserve", MyRouter(), {"label": "careful", "router": "goodserve", "rectifier": "none"}]}``. A labelled
    entry is one policy; ``compare`` names the fields that make a policy where there is no label. ``values`` and further
    keywords are what all runs share (see ``simulate``). ``seeds`` is how many (5), or which. ``figure`` is the ``x``
    and ``y`` of the figure. ``workers`` processes compute (-1: one per processor).

    ``experiment`` names one of gsim's or of ``./experiments`` that is a grid of runs. What is not said here is as it
    says (``small``: as its quick version does); an axis of ``grid`` takes the place of its axis of that name.

    Nothing is printed, and nothing written unless ``out`` names a results folder: what is stored there is not computed
    again, as on the command line. Objects without a registered name have no place in a folder; they are refused there.
    """
    known = known_extensions()
    seeds = seeds.item() if isinstance(seeds, np.integer) else seeds
    _check_words(grid, seeds, figure, name, out)
    asked = Asked({}, {}, 5, COMPARED, {}) if experiment is None else experiment_of(experiment, small)
    if small and experiment is None:
        raise ConfigError("small=True: only an experiment has a small version; name one with experiment=")
    base = Given().but(asked.values).but(values or {}).but(further)
    chosen = asked.seeds if seeds is None else seeds
    compared = [str(item) for item in compare or asked.compare]
    axes = {**asked.grid, **(grid or {})}
    made = grid_of(axes, base, read_seeds(chosen if isinstance(chosen, int) else list(chosen)), compared)
    told = {
        "name": name or experiment or "sweep",
        "compare": compared,
        "figure": dict(figure or asked.figure),
        "bound": False,
    }
    for cell in made.cells:
        cell.settings.scenario()  # every policy and profile is built once before anything runs
    check_fields(told, made.cells)
    work = Work(workers, known, Registered.here())
    if out is not None:
        return _kept(made, told, Path(out), work)
    done = [done for group in work.map(_computed, _alike(made.cells)) for done in group]
    ordered = _in_order(made.cells, done)
    results = [cell_result(cell, [summary for summary, _ in ordered[i]]) for i, cell in enumerate(made.cells)]
    return ResultsInMemory(Outcome(told, results), made, [table for own in ordered for _, table in own])


def _check_words(grid: object, seeds: object, figure: object, name: object, out: object) -> None:
    """Raises ``ConfigError`` for what is no mapping, list or name; what they hold is looked at where it is used."""
    for word, value in (("grid", grid), ("figure", figure)):
        if value is not None and not isinstance(value, Mapping):
            raise ConfigError(f"{word} must be a mapping, not {type(value).__name__}")
    if seeds is not None and (isinstance(seeds, str) or not (isinstance(seeds, int) or hasattr(seeds, "__iter__"))):
        raise ConfigError(f"seeds must be how many (a whole number), or a list of them; not {seeds!r}")
    if name is not None and (not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0")):
        raise ConfigError(f"name must be a text that can be a file's name, not {name!r}; a folder is given as out")
    if out is not None and not str(out):
        raise ConfigError("out is empty; give a folder, or None to keep nothing")


Job = tuple[int, Settings, int]
"""A cell's place, its configuration, a seed."""


def _alike(cells: Sequence[Cell]) -> list[list[Job]]:
    """The runs, those of the same workload and seed together: their sessions are drawn once."""
    groups: dict[tuple[str, int], list[Job]] = {}
    for place, cell in enumerate(cells):
        workload = cell.settings.workload()
        for seed in cell.seeds:
            groups.setdefault((workload, seed), []).append((place, cell.settings, seed))
    return list(groups.values())


def _computed(jobs: Sequence[Job]) -> list[tuple[int, int, Done]]:
    shelf = Shelf()
    found: list[tuple[int, int, Done]] = []
    for place, settings, seed in jobs:
        done = finish(settings, seed, shelf)
        found.append((place, seed, (done.summary, done.rows)))
    return found


def _in_order(cells: Sequence[Cell], done: Sequence[tuple[int, int, Done]]) -> list[list[Done]]:
    found = {(place, seed): own for place, seed, own in done}
    return [[found[place, seed] for seed in cell.seeds] for place, cell in enumerate(cells)]


def _kept(made: Grid, told: Mapping[str, Any], out: Path, work: Work) -> Results:
    """Into a results folder, as the command line leaves it: only what is not stored there is computed."""
    for cell in made.cells:
        _check_named(cell.settings)
    values = {**made.cells[0].settings.plain(), **told, "seeds": list(made.cells[0].seeds)}
    words = [f"gsim.sweep(name={told['name']!r})"]
    with claimed(writable(out), words):
        folder = (out / RUNS).resolve()
        store = RunStore(writable(folder))
        keyed = {
            (place, seed): key for place, cell in enumerate(made.cells) for seed, key in zip(cell.seeds, cell.keys)
        }
        missing = [[job for job in jobs if not store.sound(keyed[job[0], job[2]])] for jobs in _alike(made.cells)]
        tasks = [[(job[1], job[2], folder, made.cells[job[0]].code) for job in jobs] for jobs in missing if jobs]
        work.map(_stored, tasks)
        publish(values, made, out, words)
    return load(out)


def _stored(jobs: Sequence[tuple[Settings, int, Path, str]]) -> None:
    shelf = Shelf()
    for settings, seed, folder, code in jobs:
        compute(settings, (seed,), folder, code, shelf)


def _check_named(settings: Settings) -> None:
    """Raises ``ConfigError`` for what a results folder could not tell from something else."""
    for group in settings.own_objects:
        raise ConfigError(
            f"{group} is an object that no name stands for, so nothing tells later what was run; leave out away, or "
            + ("write it to a file (trace=table)" if group == "trace" else f'use @register("{group}", NAME)')
        )
    for group, choice in settings.choices.items():
        if unsaid(group, choice.name):
            raise ConfigError(
                f"{group} '{choice.name}' was defined in a notebook, so nothing tells later what it was; leave out "
                f"away, or put it into extensions/{choice.name}.py"
            )
