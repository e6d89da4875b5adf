"""What of one run changes over its counted window: the number in the system, the time in it, and the share in time.

A level has none of these changes. They are the raw material of ``gsim.metrics.stationarity``, which judges them over
the seeds of a cell: one run alone cannot tell a drift from the slow waves of a queue near its capacity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsim.core import Status

Columns = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float64]

#: A run's drifts by name, as they stand in ``runs.csv``; NaN where a run has no such thing.
DRIFTS = (
    "sessions_in_system",
    "requests_in_system",
    "growth_sessions_per_s",
    "growth_requests_per_s",
    "sessions_drift",
    "requests_drift",
    "latency_drift",
    "attainment_first_half",
    "attainment_second_half",
)


def slope(times: Sequence[float] | Floats, values: Sequence[float] | Floats) -> float:
    """The slope of the least-squares line through the points (NaN with fewer than two times)."""
    t, y = _known(times, values)
    t = t - t.mean() if len(t) else t
    squares = float(t @ t)
    return float(t @ y) / squares if squares > 0 else math.nan


def relative_drift(times: Sequence[float] | Floats, values: Sequence[float] | Floats, span: float) -> float:
    """By what part of their mean the values change along the least-squares line over ``span`` (of the times' unit)."""
    _, y = _known(times, values)
    level = float(y.mean()) if len(y) else math.nan
    return slope(times, values) * span / level if level > 0 else math.nan


def window_drifts(over_time: Mapping[str, Sequence[float]], start_s: float, until_s: float) -> dict[str, float]:
    """Levels and drifts inside the window ``[start_s, until_s)``, from a run's series over equal bins.

    ``over_time`` has the bins' edges ``time_s`` (seconds) and per bin the mean numbers of open ``requests`` and
    ``sessions``, and how many requests were ``counted`` and ``good``. Bins that the window cuts are left out of the
    numbers in the system; halves of the attainment are told apart at the bin edge that is nearest to the middle.
    Growth is in requests or sessions per second; a drift is the change over the window as a part of the level.
    """
    edges = np.asarray(over_time["time_s"], dtype=float)
    width = float(edges[1] - edges[0]) if len(edges) > 1 else 0.0
    rounding = 1e-6 * width
    inside = (edges[:-1] >= start_s - rounding) & (edges[1:] <= until_s + rounding)
    middle_s = (edges[:-1] + edges[1:]) / 2.0
    found = dict.fromkeys(DRIFTS, math.nan)
    for what in ("sessions", "requests"):
        values = np.asarray(over_time[what], dtype=float)[inside]
        if len(values) > 1:
            found[f"{what}_in_system"] = float(np.mean(values))
            found[f"growth_{what}_per_s"] = slope(middle_s[inside], values)
            found[f"{what}_drift"] = relative_drift(middle_s[inside], values, until_s - start_s)
    counted, good = (np.asarray(over_time[name], dtype=float) for name in ("counted", "good"))
    first = middle_s < (start_s + until_s) / 2.0
    for name, half in (("first", first), ("second", ~first)):
        n = float(counted[half].sum())
        found[f"attainment_{name}_half"] = float(good[half].sum()) / n if n > 0 else math.nan
    return found


def latency_drift(requests: Columns, start_s: float, until_s: float) -> float:
    """By what part of its mean the time in the system, as a share of the deadline, changes over the window.

    Of all requests that arrive inside the window, by their arrival; a request that was still open when the run
    stopped counts with the time it had been there. Rejected and lost requests spent no time that could be compared.
    The share of the deadline, because requests of unlike classes have unlike latencies: their mixture is noise. By
    Little's law this is the number in the system without the noise of arrivals.
    """
    arrival_s, slo_s = requests["arrival_s"], requests["slo_s"]
    ended_s = requests.get("ended_s", requests["finished_s"])
    status = requests["status"]
    latest_s = _uncensored_s(requests, ended_s, start_s, until_s)
    taken = (arrival_s >= start_s) & (arrival_s < latest_s) & (status != Status.REJECTED) & (status != Status.FAILED)
    stay_s = (ended_s - arrival_s)[taken]
    deadline_s = slo_s[taken]
    share = stay_s / deadline_s if np.isfinite(deadline_s).all() else stay_s
    return relative_drift(arrival_s[taken], share, until_s - start_s)


def _uncensored_s(requests: Columns, ended_s: Floats, start_s: float, until_s: float) -> float:
    """Up to when requests may arrive for the end of the run not to shorten their stay, at most half of the window off.

    A run that stops at the window's end (a closed population) cuts the stays of the last arrivals: that would look like
    latency that falls.
    """
    cut = requests["status"] == Status.CUT
    if not cut.any():
        return until_s
    stays = (ended_s - requests["arrival_s"])[requests["status"] == Status.FINISHED]
    long_s = float(np.nanquantile(stays, 0.95)) if len(stays) else math.inf
    stopped_s = float(np.nanmax(ended_s))
    return max((start_s + until_s) / 2.0, min(until_s, stopped_s - long_s))


def _known(times: Sequence[float] | Floats, values: Sequence[float] | Floats) -> tuple[Floats, Floats]:
    t, y = np.asarray(times, dtype=float), np.asarray(values, dtype=float)
    known = np.isfinite(t) & np.isfinite(y)
    return t[known], y[known]
