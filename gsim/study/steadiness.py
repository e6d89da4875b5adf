"""Which cells of a sweep have a level."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from gsim.metrics import DRIFTS, Stationarity, judge
from gsim.study.measured import Measured


def steadiness(cell: Measured) -> Stationarity:
    """The verdict on a cell, from what its runs recorded over time (of results made before that: None)."""
    columns = {name: cell.metric(name) for name in (*DRIFTS, "requests", "cut", "sessions", "arrived_rps")}
    columns["warmup_s"] = cell.metric("window_start_s")
    columns["window_s"] = cell.metric("window_until_s") - cell.metric("window_start_s")
    stay_ms = cell.metric("mean_makespan_ms")
    columns["stay_s"] = (stay_ms if np.isfinite(stay_ms).any() else cell.metric("mean_e2el_ms")) / 1e3
    return judge(columns)


Standing = Literal["level", "no level", "undecided", "unknown"]


def standing(cell: Measured) -> Standing:
    """Whether the cell has a level, in a word; ``unknown`` where nothing was recorded over time."""
    told = steadiness(cell).stationary
    if told is None:
        return "undecided" if np.isfinite(cell.metric("latency_drift")).any() else "unknown"
    return "level" if told else "no level"


def has_no_level(cell: Measured) -> bool:
    """It is shown, or cannot be excluded, that the cell drifts."""
    return steadiness(cell).stationary is False


def steady_columns(cell: Measured) -> dict[str, Any]:
    """``stationary`` (empty: it cannot be said) and why not, for a row of ``results.csv``."""
    told = steadiness(cell)
    return {"stationary": told.stationary, "not_stationary_because": told.because}
