"""How sure one can be: t-intervals over seeds, and paired differences over the same seeds.

Every router of a cell sees the same arrivals and lengths (common random numbers), so two routers are compared by the
differences of their runs, seed by seed, which removes what the load itself varies from seed to seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A mean and the bounds of its confidence interval (NaN bounds: fewer than two values)."""

    mean: float
    low: float
    high: float


class Paired(NamedTuple):
    """The mean of paired differences, its confidence interval, and the two-sided p-value of "no difference"."""

    mean: float
    low: float
    high: float
    p_value: float
    pairs: int

    @property
    def significant(self) -> bool:
        """The interval excludes 0: the only case in which "better" or "worse" may be said."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Interval:
    """Mean and two-sided Student t-interval of independent values (one per seed).

    NaN values are left out; without any the mean is NaN; with fewer than two the bounds are NaN, because one run says
    nothing about how much runs differ.
    """
    kept = finite(values)
    if len(kept) == 0:
        return Interval(math.nan, math.nan, math.nan)
    mean = float(kept.mean())
    if len(kept) < 2:
        return Interval(mean, math.nan, math.nan)
    half = t_quantile(len(kept) - 1, level) * standard_error(kept)
    return Interval(mean, mean - half, mean + half)


def paired_difference(
    first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray, level: float = 0.95
) -> Paired:
    """``first - second``, pair by pair (the same seeds in the same order): mean, t-interval, two-sided p-value.

    Pairs with a NaN are left out. Differences that are all 0 give p = 1, differences that are all equal but not 0
    give p = 0. Raises ``ValueError`` where the lengths differ.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"paired values must have equal lengths, not {a.shape} and {b.shape}")
    differences = finite(a - b)
    mean, low, high = mean_interval(differences, level)
    n = len(differences)
    if n < 2:
        return Paired(mean, low, high, math.nan, n)
    error = standard_error(differences)
    if error == 0.0:
        return Paired(mean, low, high, 1.0 if mean == 0.0 else 0.0, n)
    from scipy.special import stdtr

    return Paired(mean, low, high, float(2.0 * stdtr(n - 1, -abs(mean) / error)), n)


def finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """The values that are not NaN."""
    array = np.asarray(values, dtype=float)
    return np.asarray(array[~np.isnan(array)])


def standard_error(values: np.ndarray) -> float:
    """Of the mean of two or more independent values."""
    if np.all(values == values[0]):
        return 0.0  # not the rounding of a mean of equal numbers
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def t_quantile(degrees: int, level: float) -> float:
    """Student's two-sided quantile: how many standard errors an interval of this level reaches."""
    # scipy.special rather than scipy.stats: it loads in a tenth of the time.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + level / 2.0))
