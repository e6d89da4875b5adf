"""How often the test of stationarity is right, on queues whose truth is known: ``python -m benchmarks.drift_test``.

Options: ``servers=20 cells=200 window_s=100,300 seeds=3,5``. M/M/c from empty, mean service 1 s, a warm-up of 10 s.
Below a load of 1 it has a level (near 1 it takes longer than any window to get there), from 1 on it has none.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.options import read_options
from gsim.metrics import Stationarity, judge, latency_drift, window_drifts

DEADLINE_S = 4.0
WARMUP_S = 10.0
LOADS = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.02, 1.05, 1.1)


def queue(seed: int, servers: int, load: float, start_s: float, until_s: float) -> dict[str, float]:
    """One run: its drifts in the window, as a study records them."""
    rng = np.random.default_rng([seed, servers, round(load * 1000)])
    arrival_s = np.sort(rng.uniform(0.0, until_s, rng.poisson(load * servers * until_s)))
    free, ends = [0.0] * servers, []
    for at, service in zip(arrival_s.tolist(), rng.exponential(1.0, len(arrival_s)).tolist(), strict=True):
        end = max(at, free[0]) + service
        heapq.heapreplace(free, end)
        ends.append(end)
    finished_s = np.array(ends)
    edges = np.linspace(0.0, until_s, 81)
    before = [np.maximum(edges[:, None] - np.sort(times), 0.0).sum(axis=1) for times in (arrival_s, finished_s)]
    counted = arrival_s >= start_s
    good = counted & (finished_s - arrival_s <= DEADLINE_S)
    over_time = {
        "time_s": edges,
        "requests": np.diff(before[0] - before[1]) / np.diff(edges),
        "sessions": np.full(80, np.nan),
        "counted": np.histogram(arrival_s[counted], edges)[0],
        "good": np.histogram(arrival_s[good], edges)[0],
    }
    rows = {"arrival_s": arrival_s, "finished_s": finished_s, "status": np.zeros(len(arrival_s), dtype=int)}
    rows["slo_s"] = np.full(len(arrival_s), DEADLINE_S)
    return window_drifts(over_time, start_s, until_s) | {
        "latency_drift": latency_drift(rows, start_s, until_s),
        "requests": float(counted.sum()),
        "window_s": until_s - start_s,
        "stay_s": float((finished_s - arrival_s)[counted].mean()),
    }


def verdict(runs: Sequence[dict[str, float]]) -> Stationarity:
    """The verdict on a cell of these runs."""
    return judge({name: [run[name] for run in runs] for name in runs[0]})


def cells_of(servers: int, load: float, seeds: int, cells: int, window_s: float) -> list[list[dict[str, float]]]:
    """So many cells of so many runs."""
    return [
        [queue(1000 * i + seed, servers, load, WARMUP_S, WARMUP_S + window_s) for seed in range(seeds)]
        for i in range(cells)
    ]


def called(cells: Sequence[Sequence[dict[str, float]]]) -> tuple[float, float]:
    """The shares of the cells that are called stationary, and not stationary (the rest is not decided)."""
    told = [verdict(runs).stationary for runs in cells]
    return told.count(True) / len(told), told.count(False) / len(told)


if __name__ == "__main__":
    options = read_options(sys.argv[1:], servers="20", cells="200", window_s="100,300", seeds="3,5")
    windows = [float(text) for text in options["window_s"].split(",")]
    seeds = [int(text) for text in options["seeds"].split(",")]
    heads = [f"{window:.0f} s, {n} seeds" for window in windows for n in seeds]
    print("| load (called steady, not steady) | " + " | ".join(heads) + " |")
    print("|---|" + "---|" * len(heads))
    for load in LOADS:
        shares = []
        for window in windows:
            cells = cells_of(int(options["servers"]), load, max(seeds), int(options["cells"]), window)
            shares += [called([runs[:n] for runs in cells]) for n in seeds]
        print(f"| {load:g} | " + " | ".join(f"{yes:.0%}, {no:.0%}" for yes, no in shares) + " |", flush=True)
