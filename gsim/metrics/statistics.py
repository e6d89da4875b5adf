"""How sure one can be: t-intervals over seeds, and paired differences over the same seeds.

Every router of a cell sees the same arrivals and lengths (common random numbers), so two routers are compared by the
differences of their runs, seed by seed, which removes what the load itself varies from seed to seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

#: Differences of shares that are equal on paper are apart by so much of the shares.
_ROUNDING = 1e-12


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

    Pairs with a NaN are left out. Raises ``ValueError`` where the lengths differ.

    Differences that are all 0 give p = 1. Where all are equal (but for rounding) and not 0 there is no spread to judge
    by, and two equal seeds are no certainty: the p-value is that of the sign test, 2^(1 - n), and while it is above
    1 - ``level`` the interval is unknown (NaN).
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"paired values must have equal lengths, not {a.shape} and {b.shape}")
    both = ~np.isnan(a - b)
    a, b = a[both], b[both]
    differences = a - b
    mean, low, high = mean_interval(differences, level)
    n = len(differences)
    if n < 2:
        return Paired(mean, low, high, math.nan, n)
    rounding = _ROUNDING * float(max(np.abs(a).max(), np.abs(b).max()))
    if np.ptp(differences) <= rounding:
        return _without_spread(mean if abs(mean) > rounding else 0.0, n, level)
    error = standard_error(differences)
    from scipy.special import stdtr

    return Paired(mean, low, high, float(2.0 * stdtr(n - 1, -abs(mean) / error)), n)


def _without_spread(difference: float, n: int, level: float) -> Paired:
    p_value = 1.0 if difference == 0.0 else 2.0 ** (1 - n)
    told = difference if difference == 0.0 or p_value <= 1.0 - level else math.nan
    return Paired(difference, told, told, p_value, n)


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
