"""The largest offered load that a pool carries: what capacity and the knee are made of.

Carried is a load at which the pool has a level (``gsim.metrics.stationarity``) *and* a share of the requests is in
time. Attainment need not fall with load: a router that spreads evenly meets slow cards at a light load too. So a search
does not stop at the first load that fails, and what it answers with was simulated on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gsim.metrics import Interval, positive_interval
from gsim.run.cell import run, summary_of, with_window
from gsim.run.settings import Settings
from gsim.study.knees import crossing
from gsim.study.rate_search import at_rate
from gsim.study.steadiness import steadiness

#: Requests that may miss, of those that are counted over all seeds, if the target is just met: with fewer than so many
#: a share such as 99 % cannot be told from its neighbours (their number varies by a fifth).
_MISSES = 20.0
_FEWEST = 100


@dataclass(frozen=True)
class Probe:
    """What the runs of one rate say."""

    rate_rps: float
    metrics: tuple[Mapping[str, float], ...]
    """Of each seed."""
    label: str = ""
    point: Mapping[str, Any] = field(default_factory=dict)

    def metric(self, name: str) -> np.ndarray[Any, Any]:
        """One value per seed."""
        return np.array([run.get(name, math.nan) for run in self.metrics], dtype=float)

    @property
    def attainment(self) -> float:
        """The mean share in time over the seeds."""
        return float(np.nanmean(self.metric("attainment")))

    def carries(self, target: float) -> bool:
        """The share is in time, and it is not shown that there is no level."""
        return self.attainment >= target and steadiness(self).stationary is not False

    def floods(self, target: float) -> bool:
        """Beyond capacity: the target is missed and growth is shown (a level may be missing by chance). No higher load
        will do better."""
        told = steadiness(self)
        return self.attainment < target and (told.stationary is False or told.growth.low > 0)


@dataclass(frozen=True)
class Found:
    """The answer of a search."""

    rate_rps: float
    """The largest rate tried that is carried; 0 where none is."""
    beyond_rps: float
    """The next rate tried, which is not; infinite where the highest one is carried."""
    by_seed: tuple[float, ...]
    """Where each seed's attainment crosses the target, between the rates tried (``beyond_rps`` where it does not)."""
    said: str = ""
    """What is to be known of the answer, in words."""

    @property
    def interval(self) -> Interval:
        """The rate, with a 95 % interval over seeds of where attainment crosses the target."""
        _, low, high = positive_interval(self.by_seed)
        return Interval(self.rate_rps, min(low, self.rate_rps), max(high, self.rate_rps))


def enough(settings: Settings, rate_rps: float, requests: int) -> Settings:
    """The configuration at a rate, with a window that is long enough for so many counted requests a run."""
    there = at_rate(settings, rate_rps)
    trace = dict(there.plain()["trace"])
    begin_s = there.warmup_s if isinstance(there.warmup_s, float) else 0.0
    needed_s = begin_s + requests / rate_rps
    if trace.get("duration_s") is not None:
        trace["duration_s"] = max(float(trace["duration_s"]), needed_s)
    if trace.get("requests") is not None:
        trace["requests"] = max(int(trace["requests"]), math.ceil(requests + begin_s * rate_rps))
    changed: dict[str, Any] = {"trace": trace}
    if isinstance(there.until_s, float):
        changed["until_s"] = max(there.until_s, needed_s)
    return there.replace(**changed)


def requests_for(target: float, seeds: int) -> int:
    """Counted requests a run that a share such as ``target`` needs, with so many seeds."""
    return max(_FEWEST, math.ceil(_MISSES / max(1.0 - target, 0.005) / seeds))


def run_metrics(work: tuple[Settings, int]) -> dict[str, float]:
    """One run in numbers (in a worker)."""
    settings, seed = with_window(work[0]), work[1]
    metrics: dict[str, float] = summary_of(settings, run(settings, seed), 0.0)["metrics"]
    return metrics


def prober(
    settings: Settings,
    seeds: Sequence[int],
    target: float,
    every: Callable[[Sequence[tuple[Settings, int]]], list[dict[str, float]]],
) -> Callable[[float], Probe]:
    """A function that simulates a rate with all seeds, long enough for the (strictest) target; ``every`` runs them."""

    def probe(rate_rps: float) -> Probe:
        there = enough(settings, rate_rps, requests_for(target, len(seeds)))
        return Probe(rate_rps, tuple(every([(there, seed) for seed in seeds])))

    return probe


@dataclass
class LoadSearch:
    """A search over a ladder of rates whose steps are the resolution; what was asked once is not simulated again."""

    probe: Callable[[float], Probe]
    lowest_rps: float
    highest_rps: float
    resolution: float
    """The answer is right to this fraction."""
    _known: dict[int, Probe] = field(default_factory=dict, init=False, repr=False)

    def highest(self, target: float) -> Found:
        """The largest rate that is carried.

        Rates are doubled from the lowest on, until one floods the pool: a rate far too high, which takes longest to
        simulate, is never tried. Then the interval above the largest one that is carried is halved.
        """
        step = math.log1p(self.resolution)
        top = round(math.log(self.highest_rps / self.lowest_rps) / step)
        double = max(1, round(math.log(2.0) / step))
        rungs = [*range(0, top, double), top]
        tried = []
        for rung in rungs:
            tried.append(rung)
            if self._at(rung).floods(target):
                break
        carried = [rung for rung in tried if self._at(rung).carries(target)]
        if not carried:
            return self._never(tried, target)
        low = carried[-1]
        above = [rung for rung in tried if rung > low]
        if not above:
            rate = self._at(low).rate_rps
            values = tuple(rate for _ in self._at(low).metrics)
            return Found(
                rate, math.inf, values, "; ".join(["above the highest rate looked at", *self._gaps(low, target)])
            )
        high = above[0]
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._at(middle).carries(target) else (low, middle)
        return self._between(low, high, target)

    def _between(self, low: int, high: int, target: float) -> Found:
        rate, beyond = self._at(low).rate_rps, self._at(high).rate_rps
        known = [self._known[rung] for rung in sorted(self._known) if rung <= high]
        shares = np.array([probe.metric("attainment") for probe in known]).T
        found = [crossing([probe.rate_rps for probe in known], own, target) for own in shares]
        by_seed = tuple(
            where if math.isfinite(where) else (beyond if own[-1] >= target else 0.0)
            for where, own in zip(found, shares, strict=True)
        )
        words = self._gaps(low, target)
        if self._at(high).attainment >= target:
            words.append("beyond it the pool has no level, though the target is still met")
        return Found(rate, beyond, by_seed, "; ".join(words))

    def _never(self, tried: Sequence[int], target: float) -> Found:
        best = max((self._at(rung) for rung in tried), key=lambda probe: probe.attainment)
        none = tuple(0.0 for _ in best.metrics)
        at = f"at {best.rate_rps:.3g} requests/s"
        said = f"never reaches {target:.0%} ({best.attainment:.1%} at most, {at})"
        if best.attainment >= target:
            said = (
                f"never has {target:.0%} in time with a level ({best.attainment:.1%} {at}: {steadiness(best).because})"
            )
        return Found(0.0, self.lowest_rps, none, said)

    def _gaps(self, below: int, target: float) -> list[str]:
        """Lower rates that are not carried."""
        missed = [self._known[rung] for rung in sorted(self._known) if rung < below]
        rates = ", ".join(f"{probe.rate_rps:.3g}" for probe in missed if not probe.carries(target))
        return [f"not carried at lower rates: {rates}"] if rates else []

    def _at(self, rung: int) -> Probe:
        if rung not in self._known:
            self._known[rung] = self.probe(self.lowest_rps * math.exp(math.log1p(self.resolution) * rung))
        return self._known[rung]
