"""Runs of a real pool, as recorded at its gateway.

A folder holds CSV files (``.csv`` or ``.csv.gz``), one row per request in order of arrival:

- ``timed-*``: one run with arrival times. Its placements are replayed.
- ``SET-ROUTER``: runs of the same prompts in the same order under several routers. What routers did is predicted.

Columns: ``request_id`` (order of arrival), ``arrival_s`` (timed runs), ``instance`` (where it was sent),
``input_tokens``, ``output_tokens``, ``ttft_ms``, ``tpot_ms`` (whole milliseconds, rounded down), ``e2e_ms``; for every
instance i, as the gateway saw it when it decided, ``hit_percent_i`` (share of the prompt that its own prefix index
says i was sent before), ``in_flight_i``, ``running_i``, ``waiting_i`` and ``kv_usage_i``. Latencies and states may be
empty in timed runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsim.core.errors import InputError
from gsim.core.files import UNREADABLE

Floats = NDArray[np.float64]

LATENCIES = ("ttft_ms", "tpot_ms", "e2e_ms")
STATES = ("hit_percent", "in_flight", "running", "waiting", "kv_usage")
_WHOLE = ("request_id", "input_tokens", "output_tokens", "instance")
_MOST_TOKENS = 10_000_000
_COLUMNS = ("request_id", "instance", "input_tokens", "output_tokens", *LATENCIES)


@dataclass(frozen=True, eq=False)
class PoolRun:
    """One recorded run: requests that were served, in order of arrival."""

    set_name: str
    router: str
    """As the file names it; ``recorded`` for a timed run."""
    rows: pd.DataFrame
    instances: int

    @property
    def timed(self) -> bool:
        """Arrival times are known."""
        return "arrival_s" in self.rows.columns

    def state(self, name: str) -> Floats:
        """One of ``STATES``, requests by instances."""
        return self.rows[[f"{name}_{i}" for i in range(self.instances)]].to_numpy(dtype=np.float64)

    @property
    def placed(self) -> NDArray[np.int64]:
        """Where each request was sent."""
        return self.rows["instance"].to_numpy(dtype=np.int64)

    @property
    def e2e_s(self) -> Floats:
        """End-to-end latency (NaN: not recorded)."""
        return self.rows["e2e_ms"].to_numpy(dtype=np.float64) / 1e3


@dataclass(frozen=True)
class PoolTruth:
    """What a folder holds."""

    timed: tuple[PoolRun, ...]
    shared: dict[str, tuple[PoolRun, ...]]
    """By set, its routers in alphabetical order; the same requests in each."""
    left_out: tuple[str, ...]
    """What was read and not used, and why."""


def read_pool(folder: str | Path) -> PoolTruth:
    """Read and check a folder; raises ``InputError`` that names file, row and value."""
    folder = Path(folder)
    files = sorted(path for path in folder.glob("*") if path.name.endswith((".csv", ".csv.gz")))
    if not files:
        raise InputError(f"{folder}: holds no .csv or .csv.gz file of a recorded pool (timed-*.csv, SET-ROUTER.csv)")
    timed: list[PoolRun] = []
    shared: dict[str, list[PoolRun]] = {}
    left_out: list[str] = []
    for path in files:
        stem = path.name.removesuffix(".gz").removesuffix(".csv")
        is_timed = stem.startswith("timed")
        set_name, _, router = stem.rpartition("-")
        if not is_timed and not (set_name and router):
            raise InputError(f"{path}: must be named timed-NAME.csv or SET-ROUTER.csv")
        run = _run(path, stem if is_timed else set_name, "recorded" if is_timed else router, left_out)
        if is_timed and any(other.set_name == stem for other in timed):
            raise InputError(f"{path}: the folder holds {stem} twice")
        if is_timed:
            timed.append(run)
        else:
            shared.setdefault(set_name, []).append(run)
    agreed = {name: _same_requests(runs, left_out) for name, runs in shared.items()}
    return PoolTruth(tuple(timed), agreed, tuple(left_out))


def _run(path: Path, set_name: str, router: str, left_out: list[str]) -> PoolRun:
    try:
        rows = pd.read_csv(path)
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    needed = (*_COLUMNS, "arrival_s") if router == "recorded" else _COLUMNS
    found = [re.fullmatch(r"hit_percent_(\d+)", str(name)) for name in rows.columns]
    instances = sum(match is not None for match in found)
    per_instance = [f"{name}_{i}" for name in STATES for i in range(max(instances, 1))]
    missing = [name for name in (*needed, *per_instance) if name not in rows.columns]
    if missing:
        raise InputError(f"{path}: column {missing[0]} is missing")
    _check(path, rows, needed, instances)
    _check(path, rows, per_instance, instances, empty_allowed=per_instance)
    served = (rows["input_tokens"] > 0) & (rows["output_tokens"] > 0)
    for name in LATENCIES[::2]:
        served &= ~(rows[name] <= 0)
    served &= ~rows["request_id"].duplicated()
    if not served.all():
        left_out.append(
            f"{path.name}: {int((~served).sum())} of {len(rows)} rows without tokens or latency, or repeated"
        )
    order = "arrival_s" if router == "recorded" else "request_id"
    rows = rows[served].sort_values(order, kind="stable").reset_index(drop=True)
    if rows.empty:
        raise InputError(f"{path}: holds no request that was served")
    _check_order(path, rows)
    if router == "recorded":
        # Ids are given before the gateway's queue, times at its end: some neighbours are swapped.
        rows["request_id"] = np.arange(len(rows))
    return PoolRun(set_name, router, rows, instances)


def _check(
    path: Path,
    rows: pd.DataFrame,
    columns: Iterable[str],
    instances: int,
    empty_allowed: Iterable[str] = LATENCIES,
) -> None:
    """Every value of these columns is a number that can be; those of ``empty_allowed`` may be missing."""
    for name in columns:
        values = pd.to_numeric(rows[name], errors="coerce").to_numpy(dtype=np.float64)
        missing = rows[name].isna().to_numpy() & (name in empty_allowed)
        below = instances if name == "instance" else _MOST_TOKENS
        bad = (values < 0) | (~np.isfinite(values) & ~missing)
        if name in _WHOLE:
            bad |= (values >= below) | (values != np.floor(values))
        if bad.any():
            row = int(np.argmax(bad))
            allowed = f"a whole number below {below}" if name in _WHOLE else "a number, 0 or more"
            raise InputError(f"{path}, row {row + 2}: {name} must be {allowed}, not {rows[name].iloc[row]}")
        rows[name] = values.astype(np.int64) if name in _WHOLE else values


def _check_order(path: Path, rows: pd.DataFrame) -> None:
    """An answer is over after its first token."""
    early = (rows["e2e_ms"] < rows["ttft_ms"]).to_numpy()
    if early.any():
        row = rows.iloc[int(np.argmax(early))]
        raise InputError(
            f"{path}, request {row['request_id']:.0f}: e2e_ms ({row['e2e_ms']:g}) must be at least ttft_ms "
            f"({row['ttft_ms']:g})"
        )


def _same_requests(runs: list[PoolRun], left_out: list[str]) -> tuple[PoolRun, ...]:
    """Runs of one set are of one pool; a prompt whose length differs between them is reported."""
    sizes = {run.instances for run in runs}
    if len(sizes) > 1:
        raise InputError(f"set {runs[0].set_name}: its runs have unlike numbers of instances: {sorted(sizes)}")
    routers = [run.router for run in runs]
    if len(set(routers)) < len(routers):
        raise InputError(f"set {runs[0].set_name}: a router has two files: {routers}")
    ids = set.intersection(*(set(run.rows["request_id"]) for run in runs))
    if not ids:
        raise InputError(f"set {runs[0].set_name}: its runs have no request_id in common")
    lengths = pd.concat([run.rows.set_index("request_id")["input_tokens"] for run in runs], axis=1)
    unlike = int((lengths.max(axis=1) != lengths.min(axis=1)).sum())
    if unlike:
        left_out.append(f"set {runs[0].set_name}: {unlike} of {len(lengths)} prompts have unlike lengths in its runs")
    return tuple(runs)
