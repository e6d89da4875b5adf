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


class Several(NamedTuple):
    """Several numbers, and what they leave."""

    numbers: Floats
    distance: float


def least_distance_of(lags: Callable[[Floats], Floats], start: Floats, low: Floats, high: Floats) -> Several:
    """As ``least_distance`` for several numbers at once, each within its range: steps along the slopes of all."""
    number = np.clip(start, low, high)
    here = lags(number)
    found = Several(number, spread(here))
    for _ in range(2 * _ROUNDS):
        nudges = 0.4 * _NUDGE * (high - low) * np.where(found.numbers - low < 0.5 * (high - low), 1.0, -1.0)
        rows = []
        for i, nudge in enumerate(nudges):
            moved = found.numbers.copy()
            moved[i] += nudge
            rows.append((lags(moved) - here) / nudge)
        step = _step_of(here, np.array(rows))
        gained = 0.0
        for shorter in (1.0, 0.5, 0.25):
            number = np.clip(found.numbers + shorter * step, low, high)
            there = lags(number)
            gained = found.distance - spread(there)
            if gained > 0.0:
                here, found = there, Several(number, spread(there))
                break
        if gained < 2e-3 * found.distance:
            break
    return found


def spread(lags: Floats) -> float:
    """Mean distance from the median."""
    return float(np.abs(lags - np.median(lags)).mean())


def _step(lags: Floats, slopes: Floats) -> float:
    """The step that brings ``lags + step * slopes`` nearest to a common lag: iteratively reweighted least squares."""
    return float(_step_of(lags, slopes[None, :])[0])


def _step_of(lags: Floats, slopes: Floats) -> Floats:
    """The same for several numbers: a row of slopes for each."""
    columns = np.column_stack([*slopes, np.ones(len(lags))])
    # Numbers of unlike units: each column is scaled, so that none is lost in the rounding of another.
    scale = np.abs(columns).max(axis=0)
    scale[scale == 0.0] = 1.0
    columns = columns / scale
    small = 1e-3 * spread(lags) + 1e-9
    weights = np.ones(len(lags))
    solution = np.zeros(columns.shape[1])
    for _ in range(_WEIGHTINGS):
        root = np.sqrt(weights)
        solution = np.linalg.lstsq(columns * root[:, None], -lags * root, rcond=None)[0]
        weights = 1.0 / np.maximum(np.abs(lags + columns @ solution), small)
    steps: Floats = (solution / scale)[:-1]
    return steps
