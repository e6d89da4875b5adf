"""Fit a number so that lags become alike: least mean distance from their median.

The mean distance, not the mean square: a request that a replay admits a wave too late says nothing about an iteration.
From the median, not from zero: a lag that all have in common (a cold start) says nothing about one either. Lags late in
a run weigh more by themselves, as every iteration before them counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: By how much the number is changed to see what it does to the lags, as a share of its range.
_NUDGE = 0.05
_ROUNDS, _WEIGHTINGS = 6, 40


class Found(NamedTuple):
    """A number, and what it leaves."""

    number: float
    distance: float
    """Mean distance of the lags from their median."""


def least_distance(lags: Callable[[float], Floats], start: float, widest: float) -> Found:
    """The number within ``widest`` of 0 whose lags are most alike, from ``start``: steps along the lags' slopes.

    A step that does not help is halved twice; then the search ends.
    """
    here = lags(start)
    found = Found(start, spread(here))
    for _ in range(_ROUNDS):
        nudge = _NUDGE * widest * (1.0 if found.number <= 0.0 else -1.0)
        slopes = (lags(found.number + nudge) - here) / nudge
        step = _step(here, slopes)
        gained = 0.0
        for shorter in (1.0, 0.5, 0.25):
            number = float(np.clip(found.number + shorter * step, -widest, widest))
            there = lags(number)
            gained = found.distance - spread(there)
            if gained > 0.0:
                here, found = there, Found(number, spread(there))
                break
        if gained < 1e-2 * found.distance:
            break
    return found


def spread(lags: Floats) -> float:
    """Mean distance from the median."""
    return float(np.abs(lags - np.median(lags)).mean())


def _step(lags: Floats, slopes: Floats) -> float:
    """The step that brings ``lags + step * slopes`` nearest to a common lag: iteratively reweighted least squares."""
    columns = np.column_stack([slopes, np.ones(len(lags))])
    small = 1e-3 * spread(lags) + 1e-9
    weights = np.ones(len(lags))
    solution = np.zeros(2)
    for _ in range(_WEIGHTINGS):
        root = np.sqrt(weights)
        solution = np.linalg.lstsq(columns * root[:, None], -lags * root, rcond=None)[0]
        weights = 1.0 / np.maximum(np.abs(lags + columns @ solution), small)
    return float(solution[0])
