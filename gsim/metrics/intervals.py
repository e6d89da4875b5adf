"""Intervals over seeds that stay inside what is possible: a share in [0, 1], a rate or a time not below 0.

Which of them a metric gets is told by its name, in one place, for tables, figures and findings alike. Differences of
policies keep the paired t-interval (``paired_difference``): a difference has no such edge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from gsim.metrics.statistics import Interval, finite, mean_interval, standard_error, t_quantile

Values = Sequence[float] | np.ndarray[Any, Any]

#: Endings of the names of shares, and what their trials are called.
_SHARES = ("attainment", "_half", "fraction", "utilisation", "share")
#: Of metrics that may be negative.
_SIGNED = ("growth_", "regret_", "_drift")
_TRIALS = {"attainment": "requests", "session_attainment": "sessions"}


class _Measured(Protocol):
    def metric(self, name: str) -> np.ndarray[Any, Any]: ...


def interval_of(measured: _Measured, name: str, level: float = 0.95) -> Interval:
    """A metric's mean over the seeds of a cell with the interval of its kind."""
    values = measured.metric(name)
    if any(part in name for part in _SIGNED):
        return mean_interval(values, level)
    if not name.endswith(_SHARES):
        return positive_interval(values, level)
    trials = _TRIALS.get(name)
    known = None if trials is None else float(np.nansum(measured.metric(trials)))
    return share_interval(values, known or None, level)


def share_interval(shares: Values, trials: float | None = None, level: float = 0.95) -> Interval:
    """The mean of independent shares (one per seed) and a Wilson interval around it, always inside [0, 1].

    Wilson's interval (1927) is for a binomial share. Requests of one run are no independent trials, so their number is
    replaced by the effective one, at which a binomial share would vary as the shares do over the seeds, and the normal
    quantile by Student's (Korn and Graubard 1998, "Confidence intervals for proportions with small expected number of
    positive counts estimated from survey data", in Wilson's form after Franco et al. 2019). Where every share is 0 or
    every one is 1 the seeds do not vary; then ``trials`` (all requests of all seeds) takes the place of the effective
    number, without it the interval is the point. Bounds are NaN with fewer than two shares.
    """
    kept = finite(shares)
    if len(kept) < 2:
        return mean_interval(kept, level)
    share = min(max(float(kept.mean()), 0.0), 1.0)
    error = standard_error(kept)
    if error > 0.0:
        size = share * (1.0 - share) / error**2
    elif share in (0.0, 1.0) and trials is not None:
        size = trials
    else:
        return Interval(share, share, share)
    t2 = t_quantile(len(kept) - 1, level) ** 2
    middle = (share + t2 / (2.0 * size)) / (1.0 + t2 / size)
    half = math.sqrt(t2 * share * (1.0 - share) / size + (t2 / (2.0 * size)) ** 2) / (1.0 + t2 / size)
    return Interval(share, max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share)))


def positive_interval(values: Values, level: float = 0.95, most: float = math.inf) -> Interval:
    """Mean and t-interval of values that are never below 0 (nor above ``most``): what is impossible is cut off.

    Cutting an interval to where the true mean must lie leaves its coverage as it is.
    """
    mean, low, high = mean_interval(values, level)
    return Interval(mean, max(0.0, low) if low == low else low, min(most, high) if high == high else high)
