"""The highest request rate at which a share of the requests is in time: what capacity and the knee are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from gsim.core import ConfigError
from gsim.metrics import summarise
from gsim.run.cell import run, with_window
from gsim.run.settings import Settings


def with_policy(settings: Settings, policy: str) -> Settings:
    """The configuration under ``ROUTER``, or ``ROUTER+RECTIFIER``."""
    router, _, rectifier = policy.partition("+")
    return settings.replace(router={"name": router}, rectifier={"name": rectifier or "none"})


def at_rate(settings: Settings, rate_rps: float) -> Settings:
    """The configuration with its trace at another rate; raises ``ConfigError`` for a trace that has none."""
    trace = settings.plain()["trace"]
    if "rate_per_s" not in trace:
        raise ConfigError(f"trace '{trace['name']}' has no rate_per_s to vary")
    return settings.replace(trace=trace | {"rate_per_s": rate_rps})


def attainment_at(settings: Settings, seed: int, rate_rps: float) -> float:
    """The share of requests in time when the trace comes at this rate."""
    settings = with_window(at_rate(settings, rate_rps))
    result = run(settings, seed)
    return summarise(result.requests, None, settings.window, settings.objective)["attainment"]


@dataclass
class RateSearch:
    """A search over a ladder of rates whose steps are the resolution; what was asked once is not simulated again."""

    attainment: Callable[[float], float]
    """The share in time at a rate, taken to fall with it."""
    lowest_rps: float
    highest_rps: float
    resolution: float
    """The answer is right to this fraction."""
    _known: dict[int, float] = field(default_factory=dict, init=False, repr=False)

    def highest(self, target: float) -> float:
        """The highest rate of the ladder that reaches the target: 0 if none does, the last if all do.

        Rates are doubled until one fails, then halved in between: a rate far too high, which floods the pool and takes
        longest to simulate, is never tried.
        """
        step = math.log1p(self.resolution)
        top = round(math.log(self.highest_rps / self.lowest_rps) / step)
        double = max(1, round(math.log(2.0) / step))
        if not self._holds(0, target):
            return 0.0
        low, high = 0, min(double, top)
        while low < high and self._holds(high, target):
            low, high = high, min(high + double, top)
        while high - low > 1:
            middle = (low + high) // 2
            if self._holds(middle, target):
                low = middle
            else:
                high = middle
        return self._rate(low)

    def _rate(self, rung: int) -> float:
        return self.lowest_rps * math.exp(math.log1p(self.resolution) * rung)

    def _holds(self, rung: int, target: float) -> bool:
        if rung not in self._known:
            self._known[rung] = self.attainment(self._rate(rung))
        return self._known[rung] >= target
