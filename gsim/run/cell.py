"""A cell: one configuration, all its seeds. This is what one job of a multirun does."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.cluster import RunResult, simulate
from gsim.core import ConfigError, InputError, Population, Session, Status
from gsim.metrics import (
    count_metrics,
    instance_usage,
    latency_drift,
    over_time,
    run_costs,
    summarise,
    window_drifts,
    with_beginnings,
)
from gsim.run.audit import audit
from gsim.run.key import PILOT, PLANNER, key_of
from gsim.run.migration_metrics import migration_metrics
from gsim.run.pulse import Pulse, Watched
from gsim.run.settings import Settings
from gsim.run.shelf import Shelf
from gsim.run.store import RunStore
from gsim.run.version import maker

if TYPE_CHECKING:
    import pyarrow as pa


def run(
    settings: Settings,
    seed: int,
    load: Iterator[Session] | Population | None = None,
    watch: Callable[[Watched], None] | None = None,
) -> RunResult:
    """Simulate one run (under ``load``, where the caller has drawn it); a plan is made before it is replayed."""
    settings = with_window(settings)
    scenario = settings.scenario()
    if getattr(scenario.router, "offline", False):
        scenario = importlib.import_module(PLANNER).prepare(scenario, settings, seed)
    if load is None:
        load = settings.load(seed)
    return simulate(scenario, load, seed, settings.horizon, settings.limit.simulated_s, watch)


def with_window(settings: Settings) -> Settings:
    """The configuration with its window in seconds; a pilot run chooses what is ``auto``."""
    if not settings.auto:
        return settings
    found: Settings = importlib.import_module(PILOT).chosen(settings)
    return found


def summary_of(settings: Settings, result: RunResult, wall_s: float) -> dict[str, Any]:
    """A run in numbers: its metrics, its instances, and what it cost to simulate."""
    window = settings.window
    result = _counted_by_session(result)
    followed = over_time(result.requests, window, settings.objective.met(result.requests))
    start_s, until_s = window.start_s, followed["time_s"][-1] if followed["time_s"] else window.start_s
    counted = {"rule": window.rule, "start_s": start_s, "until_s": until_s, "ended_s": result.duration_s}
    return {
        "metrics": summarise(result.requests, result.sessions, window, settings.objective)
        | migration_metrics(result, window, settings.objective)
        | count_metrics(instance.counts for instance in result.instances)
        | {"window_start_s": start_s, "window_until_s": until_s}
        | window_drifts(followed, start_s, until_s)
        | {"latency_drift": latency_drift(result.requests, start_s, until_s)}
        | run_costs(result.instances, result.duration_s),
        "window": counted,
        "over_time": followed,
        "instances": instance_usage(result.instances, result.duration_s),
        "simulated_s": result.duration_s,
        "wall_s": wall_s,
    }


def _counted_by_session(result: RunResult) -> RunResult:
    """With the beginning of each request's session beside it, for all that count by it."""
    return dataclasses.replace(result, requests=dict(with_beginnings(result.requests)))


def _report_rows(summary: dict[str, Any], report: Any) -> None:
    """What a trace file left out: counted in every row of results, word for word in the run's own summary."""
    summary["metrics"]["skipped_rows"] = 0 if report is None else report.skipped
    if report is not None:
        summary["trace"] = str(report)


def request_rows(result: RunResult, settings: Settings) -> pa.Table:
    """One row per request, with names instead of codes, its latency, and whether it was counted and good."""
    import pyarrow as pa

    columns = dict(with_beginnings(result.requests))
    names = np.array([*(instance.name for instance in result.instances), ""], dtype=object)
    table: dict[str, Any] = {}
    for name, values in result.requests.items():
        if name == "task":
            table[name] = _words(values, list(result.tasks))
        elif name == "instance":
            table[name] = _words(values % len(names), list(names))
        elif name == "status":
            table[name] = _words(values, [status.name.lower() for status in Status])
        else:
            table[name] = values
    table["e2e_s"] = columns["finished_s"] - columns["arrival_s"]
    table["good"] = settings.objective.met(columns)
    table["session_began_s"] = columns["session_began_s"]
    table["counted"] = settings.window.requests(columns)
    return pa.table(table)


def _words(codes: np.ndarray[Any, Any], words: list[str]) -> pa.Array:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(words or [""], type=pa.string()))


def _check_counted(settings: Settings, result: RunResult, summary: dict[str, Any]) -> None:
    """A run that counts nothing has no result."""
    arrival_s = result.requests["arrival_s"]
    if summary["metrics"]["requests"] == 0 and len(arrival_s):
        raise ConfigError(
            f"no request is counted: of {len(arrival_s)} none is in the window from warmup_s={settings.start_s:g} to "
            f"until_s={settings.end_s:g} (the last one arrives at {np.nanmax(arrival_s):g} s)"
        )


@dataclass(frozen=True)
class Finished:
    """A run that has ended."""

    settings: Settings
    """As it ran: with its window in seconds."""
    seed: int
    result: RunResult
    summary: dict[str, Any]
    """See ``summary_of``."""

    @property
    def rows(self) -> pa.Table:
        """See ``request_rows``."""
        return request_rows(self.result, self.settings)


def finish(
    settings: Settings, seed: int, shelf: Shelf | None = None, watch: Callable[[Watched], None] | None = None
) -> Finished:
    """Run this seed to its end; ``shelf`` is where runs of other policies find the same sessions.

    ``watch`` is handed the simulated clock. Raises ``ConfigError`` where nothing of it is counted.
    """
    begin = time.perf_counter()
    chosen = with_window(settings)
    with settings.limit.on_the_wall():
        trace, load = (shelf or Shelf()).take(chosen, seed)
        result = run(chosen, seed, load, watch)
    audit(result)
    summary = summary_of(chosen, result, time.perf_counter() - begin)
    _check_counted(chosen, result, summary)
    _report_rows(summary, getattr(trace, "report", None))
    return Finished(chosen, seed, result, summary)


def compute(
    settings: Settings, seeds: tuple[int, ...], folder: Path, code: str | None = None, shelf: Shelf | None = None
) -> int:
    """Run and store the seeds that are not stored yet; how many were computed.

    ``code`` is the digest of the code as whoever asks has seen it (None: as it is now); ``shelf`` is where runs of
    other policies find the same sessions.
    """
    store = RunStore(folder)
    shelf = shelf or Shelf()
    computed = 0
    code = code or settings.code()
    basis = settings.basis(code)
    for seed in seeds:
        key = key_of(basis, seed)
        if store.sound(key):
            continue
        with Pulse(folder).beating() as pulse:
            done = finish(settings, seed, shelf, pulse.watch)
        if settings.basis(code) != basis:
            raise InputError(f"an input file of the run with seed {seed} changed while it was computed; run it again")
        store.save(key, done.rows, done.summary, {"code": code, **maker()})
        computed += 1
    return computed
