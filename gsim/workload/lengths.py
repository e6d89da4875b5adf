"""Distributions of lengths and gaps, made to reproduce measured percentiles."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: The standard normal's 90th percentile.
Z90 = 1.2815515655446004

#: Midpoints of equal shares: a mean over them is the mean of a distribution to three digits, tails included.
_SHARES = (np.arange(200_000) + 0.5) / 200_000


class Lengths(Protocol):
    """A distribution of positive numbers."""

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """``n`` independent draws."""
        ...

    def mean(self) -> float:
        """The expected value."""
        ...


@dataclass(frozen=True)
class Lognormal:
    """exp of a normal of mean ``mu`` and standard deviation ``sigma``, cut to [``low``, ``high``]."""

    mu: float
    sigma: float
    low: float = 0.0
    high: float = inf

    @classmethod
    def through(cls, p50: float, p90: float, low: float = 0.0, high: float = inf) -> Lognormal:
        """The lognormal with this median and 90th percentile."""
        return cls(log(p50), log(p90 / p50) / Z90, low, high)

    def quantile(self, share: Floats) -> Floats:
        """The value below which this share lies."""
        values: Floats = np.clip(np.exp(self.mu + self.sigma * _normal_quantile(share)), self.low, self.high)
        return values

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """See ``Lengths``."""
        return np.clip(np.exp(self.mu + self.sigma * rng.standard_normal(n)), self.low, self.high)

    def mean(self) -> float:
        """See ``Lengths``."""
        return float(self.quantile(_SHARES).mean())


@dataclass(frozen=True)
class Percentiles:
    """Lognormal piece by piece through measured percentiles: they are met exactly, and so is a heavy or cut tail.

    ``points`` are (percent, value), rising. Outside the first and the last the outer pieces go on, to ``low``
    and ``high``.
    """

    points: tuple[tuple[float, float], ...]
    low: float = 1.0
    high: float = inf

    @classmethod
    def of(cls, p10: float, p50: float, p90: float, p99: float, *, low: float = 1.0, high: float = inf) -> Percentiles:
        """Through the four percentiles that the published tables have."""
        return cls(((10, p10), (50, p50), (90, p90), (99, p99)), low, high)

    def quantile(self, share: Floats) -> Floats:
        """The value below which this share lies."""
        places = _normal_quantile(np.array([percent / 100.0 for percent, _ in self.points]))
        logs = np.log([value for _, value in self.points])
        z = _normal_quantile(share)
        piece = np.clip(np.searchsorted(places, z) - 1, 0, len(places) - 2)
        slope = (logs[piece + 1] - logs[piece]) / (places[piece + 1] - places[piece])
        values: Floats = np.clip(np.exp(logs[piece] + slope * (z - places[piece])), self.low, self.high)
        return values

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """See ``Lengths``."""
        return self.quantile(rng.random(n))

    def mean(self) -> float:
        """See ``Lengths``."""
        return float(self.quantile(_SHARES).mean())


@dataclass(frozen=True)
class Mixture:
    """One of some distributions, drawn by weight."""

    parts: tuple[tuple[float, Lengths], ...]
    """(weight, distribution)."""

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """See ``Lengths``."""
        weights = np.array([weight for weight, _ in self.parts])
        chosen = rng.choice(len(weights), n, p=weights / weights.sum())
        values = np.empty(n)
        for i, (_, part) in enumerate(self.parts):
            mine = chosen == i
            values[mine] = part.sample(rng, int(mine.sum()))
        return values

    def mean(self) -> float:
        """See ``Lengths``."""
        total = sum(weight for weight, _ in self.parts)
        return sum(weight * part.mean() for weight, part in self.parts) / total


@dataclass(frozen=True)
class Uniform:
    """Uniform on [``low``, ``high``]."""

    low: float
    high: float

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """See ``Lengths``."""
        return rng.uniform(self.low, self.high, n)

    def mean(self) -> float:
        """See ``Lengths``."""
        return (self.low + self.high) / 2


@dataclass(frozen=True)
class Geometric:
    """Whole numbers from 1 on with a constant chance to stop, of mean ``average``."""

    average: float

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """See ``Lengths``."""
        return rng.geometric(1.0 / self.average, n).astype(float)

    def mean(self) -> float:
        """See ``Lengths``."""
        return self.average


@dataclass(frozen=True)
class Always:
    """One value."""

    value: float

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """See ``Lengths``."""
        return np.full(n, self.value)

    def mean(self) -> float:
        """See ``Lengths``."""
        return self.value


def _normal_quantile(share: float | Floats) -> Floats:
    # SciPy is loaded by who draws such lengths: it takes a tenth of a second.
    from scipy.special import ndtri

    return ndtri(share)  # type: ignore[no-any-return]
