"""How much of a run's beginning to leave out: MSER-5.

White, K. P. (1997): "An effective truncation heuristic for bias reduction in simulation output", Simulation 69(6); the
batches of five after White, Cobb and Spratt (2000): "A comparison of five steady-state truncation heuristics for
simulation", Proc. Winter Simulation Conference. The cut is where the standard error of the mean of what remains is
least: leaving out the transient lowers it, leaving out too much raises it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

_BATCH = 5


def choose_warmup(
    times: Sequence[float] | np.ndarray[Any, Any], values: Sequence[float] | np.ndarray[Any, Any]
) -> float:
    """The time from which a series is taken to be steady (MSER-5), in the unit of ``times``.

    ``times`` are the left edges of equal bins, ``values`` the series over them (open requests, say), or a row of it
    per seed: their mean is smoother. Fewer than 20 bins are taken one by one, not in batches of five. NaN where the
    best cut is in the second half of the series: it does not settle (too short, or beyond capacity). Raises
    ``ValueError`` where the lengths differ.
    """
    series = np.asarray(values, dtype=float)
    series = series.mean(axis=0) if series.ndim == 2 else series
    at = np.asarray(times, dtype=float)
    if at.shape != series.shape:
        raise ValueError(f"there must be a value per time, not {series.shape} of {at.shape}")
    if len(series) == 0:
        return math.nan
    batch = _BATCH if len(series) >= 4 * _BATCH else 1
    n = len(series) // batch
    means = series[: n * batch].reshape(n, batch).mean(axis=1)
    # Sums over what remains after each cut, from the end on.
    remaining = np.arange(n, 0, -1)
    total = np.cumsum(means[::-1])[::-1]
    squares = np.cumsum(((means - means.mean()) ** 2)[::-1])[::-1]
    shift = total / remaining - means.mean()
    statistic = np.maximum(squares - remaining * shift**2, 0.0) / remaining.astype(float) ** 2
    # The last cuts leave too few batches for a variance to mean anything.
    cuts = max(1, n - max(2, n // 10))
    best = int(np.argmin(statistic[:cuts]))
    return float(at[best * batch]) if best <= n // 2 else math.nan
