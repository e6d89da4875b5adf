"""When requests came, where only their order was recorded.

Little's law, mean in flight over mean latency, gives the mean rate. It holds piece by piece too: a request that found m
fewer in flight than had come before it came after the m-th completion, so arrivals follow one another from the
latencies and the counts (the latencies are the only clock). Runs of a set had the same load, so the times are averaged
over them, and only the rate of each tenth of the requests is kept: arrivals are drawn from it. (Where a pool falls
empty between requests, counts do not say for how long, and the rate comes out too high.)
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gsim.core.errors import InputError
from gsim.validation.pool.truth import Floats, PoolRun

_PIECES = 10


@dataclass(frozen=True)
class Load:
    """Arrival rates of a set, by equal shares of its requests."""

    rates_per_s: tuple[float, ...]
    little_per_s: dict[str, float]
    """The mean rate that each router's run gives by itself."""

    def draw(self, requests: int, rng: np.random.Generator) -> Floats:
        """Arrival times of a Poisson process with these rates; the first request comes at 0."""
        piece = np.arange(requests) * len(self.rates_per_s) // requests
        gaps = rng.exponential(1.0, requests) / np.asarray(self.rates_per_s)[piece]
        times: Floats = np.cumsum(gaps) - gaps[0]
        return times

    def steady(self) -> Load:
        """The same number of requests in the same time, at one rate."""
        mean = len(self.rates_per_s) / float(np.sum(1.0 / np.asarray(self.rates_per_s)))
        return Load((mean,) * len(self.rates_per_s), self.little_per_s)

    def __str__(self) -> str:
        each = ", ".join(f"{router} {rate:.2f}" for router, rate in self.little_per_s.items())
        pieces = " ".join(f"{rate:.1f}" for rate in self.rates_per_s)
        return f"arrivals by Little's law: {each} requests/s; by tenths of the requests {pieces}"


def load_of(runs: Sequence[PoolRun]) -> Load:
    """The load that a set's runs had in common."""
    durations = []
    for run in runs:
        times = arrival_times(run)
        edges = np.linspace(0, len(times) - 1, _PIECES + 1).astype(int)
        durations.append(np.diff(times[edges]) / np.diff(edges))
    mean = np.mean(durations, axis=0)
    if not (mean > 0).all():
        raise InputError(f"set {runs[0].set_name}: too few requests ({len(runs[0].rows)}) to tell how fast they came")
    return Load(tuple((1.0 / mean).tolist()), {run.router: little_rate(run) for run in runs})


def little_rate(run: PoolRun) -> float:
    """Mean in flight over mean latency, requests/s; latency counts only as far as the last arrival."""
    e2e_s, in_flight = run.e2e_s, run.state("in_flight").sum(axis=1)
    left = len(e2e_s) - np.arange(len(e2e_s))
    rate = float(in_flight.mean() / e2e_s.mean())
    for _ in range(50):
        rate = len(e2e_s) * float(in_flight.mean()) / float(np.minimum(e2e_s, left / rate).sum())
    return rate


def arrival_times(run: PoolRun) -> Floats:
    """Each request's arrival, seconds after the first one, from what was in flight when it came."""
    e2e_s, in_flight = run.e2e_s, run.state("in_flight").sum(axis=1)
    gap_s = 1.0 / little_rate(run)
    # Completions do not go back: where they seem to, the gateway's counts lagged (its first second, above all).
    sent_before = np.arange(len(e2e_s))
    all_done = np.minimum.accumulate((sent_before - in_flight)[::-1])[::-1]
    times = np.zeros(len(e2e_s))
    completed: list[float] = []
    for k in range(len(times)):
        if k:
            done = int(all_done[k])
            if done <= 0:
                # Nothing has completed: the counts do not say when it came.
                times[k] = times[k - 1] + gap_s
            else:
                earliest = completed[min(done, len(completed)) - 1]
                latest = completed[done] if done < len(completed) else earliest + gap_s
                times[k] = max(times[k - 1], (earliest + min(latest, earliest + gap_s)) / 2.0)
        bisect.insort(completed, times[k] + float(e2e_s[k]))
    return times
