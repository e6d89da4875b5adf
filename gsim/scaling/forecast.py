"""Instances for the load that is coming: a forecast of the rate, and the cheapest cards for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gsim.core import ClusterView, Completion, ConfigError, Drain, Request, Slots, Start, StaticView, register
from gsim.core.view import Floats
from gsim.scaling.allocation import cheapest_counts
from gsim.scaling.variants import Variant, check_limits, check_room, least_counts, towards, variants_of

#: Of a day there are a million bins then.
_NARROWEST_S = 0.1


@register("scaler", "forecast")
@dataclass
class Forecast:
    """The cheapest instances for the largest rate that is forecast until new ones would serve (SageServe's way).

    Arrivals are counted in bins of ``bin_s``. Holt's linear trend over them (level and slope, smoothed by ``smoothing``
    and ``trend``) is carried on to the horizon: the longest boot time plus an interval; with ``season_s`` the level is
    multiplied by what the same bins did a season ago. The work of that rate, with the mean prompt and output so far,
    plus ``buffer``, is to fit: ``sum_g n_g utilisation / w_g >= 1``, ``w_g`` the instances of variant g that all of it
    would take up at its nominal throughput. Price of the instances over ``horizon``, plus that of booting new ones, is
    the least possible (integer program). State: bins, level and slope, token means.

    Source: SageServe, arXiv 2502.14617 (forecast-aware scaling: hourly forecast, integer program over start costs, a
    buffer). Simplified: Holt-Winters in place of ARIMA; one region, no spot instances; tokens are the mean so far.
    """

    bin_s: float = 60.0
    """Width of a bin."""
    smoothing: float = 0.5
    """Weight of the newest bin in the level, 0 to 1."""
    trend: float = 0.2
    """Weight of the newest change in the slope, 0 to 1."""
    season_s: float | None = None
    """Length of a day; None: only level and trend are carried on."""
    buffer: float = 0.1
    """Share that is added to the forecast."""
    utilisation: float = 0.6
    """Share of its nominal throughput that an instance is to carry, so that requests do not queue."""
    min_instances: int = 1
    """At least so many are up or booting."""
    max_instances: int | None = None
    """None: as many as there are slots."""
    interval_s: float = 60.0
    """Seconds between reviews."""
    needs: ClassVar[frozenset[str]] = frozenset()
    _counts: list[int] = field(default_factory=list, init=False, repr=False, compare=False)
    _tokens: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0], init=False, repr=False, compare=False)
    """Arrived requests and their prompt tokens; finished ones and their output tokens."""

    def __post_init__(self) -> None:
        check_limits("forecast", self.min_instances, self.max_instances, self.interval_s)
        for name in ("bin_s", "utilisation"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"scaler.{name} must be greater than 0, not {getattr(self, name)}")
        if self.bin_s < _NARROWEST_S:
            raise ConfigError(f"scaler.bin_s must be {_NARROWEST_S:g} or more, not {self.bin_s:g}: each bin is kept")
        for name in ("smoothing", "trend"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ConfigError(f"scaler.{name} must be in (0, 1], not {getattr(self, name)}")
        if not self.buffer >= 0.0:
            raise ConfigError(f"scaler.buffer must be 0 or more, not {self.buffer}")
        if self.season_s is not None and not self.season_s >= 2 * self.bin_s:
            raise ConfigError(f"scaler.season_s must be at least two bins of {self.bin_s} s, not {self.season_s}")

    def observe_arrival(self, request: Request) -> None:
        """Count it into its bin."""
        at = int(request.arrival_s // self.bin_s)
        self._counts += [0] * (at + 1 - len(self._counts))
        self._counts[at] += 1
        self._tokens[0] += 1
        self._tokens[1] += request.prompt_tokens

    def observe_completion(self, completion: Completion) -> None:
        """Learn how long answers are."""
        self._tokens[2] += 1
        self._tokens[3] += completion.output_tokens

    def check_pool(self, static: StaticView) -> None:
        """There are as many slots as are to be up."""
        check_room("forecast", self.min_instances, static)

    def review(self, slots: Slots, view: ClusterView) -> Sequence[Start | Drain]:
        """The steps to what the program says; none before a bin is full and a request has finished."""
        full = int(view.now_s // self.bin_s)
        if not full or not self._tokens[2]:
            return ()
        variants = variants_of(view.static)
        boot_s = [max(float(slots.boot_s[slot]) for slot in variant.slots) for variant in variants]
        rate_per_s = self.forecast_per_s(full, max(boot_s) + self.interval_s) * (1.0 + self.buffer)
        counts = self._cheapest(rate_per_s, variants, slots, boot_s)
        counts = least_counts(variants, counts, self.min_instances)
        return towards(counts, variants, slots, view, self.max_instances)

    def forecast_per_s(self, full: int, horizon_s: float) -> float:
        """The largest rate until the horizon, from so many full bins."""
        rates = np.zeros(full)
        known = min(full, len(self._counts))
        rates[:known] = self._counts[:known]
        rates /= self.bin_s
        ahead = math.ceil(horizon_s / self.bin_s)
        factors = self._factors(rates, full + ahead)
        level, slope = float(rates[0] / factors[0]), 0.0
        for rate, factor in zip(rates[1:].tolist(), factors[1:full].tolist(), strict=True):
            before = level
            level = self.smoothing * rate / factor + (1.0 - self.smoothing) * (level + slope)
            slope = self.trend * (level - before) + (1.0 - self.trend) * slope
        return max(0.0, *((level + h * slope) * float(factors[full - 1 + h]) for h in range(1, ahead + 1)))

    def _factors(self, rates: Floats, length: int) -> Floats:
        """What the level is multiplied by in each bin, past and to come: the last whole season over its mean."""
        season = 0 if self.season_s is None else round(self.season_s / self.bin_s)
        if not season or len(rates) < season:
            return np.ones(length)
        last = np.arange(len(rates) - season, len(rates))
        pattern = np.empty(season)
        pattern[last % season] = np.maximum(rates[last], 1e-9)
        return np.resize(pattern / pattern.mean(), length)

    def _cheapest(
        self, rate_per_s: float, variants: Sequence[Variant], slots: Slots, boot_s: Sequence[float]
    ) -> list[int]:
        prompt, output = self._tokens[1] / self._tokens[0], self._tokens[3] / self._tokens[2]
        loads = np.array([[rate_per_s * one.work_s(prompt, output) / self.utilisation for one in variants]])
        coming = slots.coming
        there = [sum(bool(coming[slot]) for slot in variant.slots) for variant in variants]
        horizon_s = max(boot_s) + self.interval_s
        return cheapest_counts(
            loads,
            [one.usd_per_hour * horizon_s for one in variants],
            [len(one.slots) for one in variants],
            most=self.max_instances,
            there=there,
            start_usd=[one.usd_per_hour * boot for one, boot in zip(variants, boot_s, strict=True)],
        )
