"""What is to be said of a study's windows: too short for its sessions, or too short for counted sessions to end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gsim.report.wording import number
from gsim.study.measured import Measured


def window_sentences(name: str, results: Sequence[Measured], rule: str) -> list[str]:
    """Warnings about the windows of a study of agents; none where they are long enough.

    What is counted by arrival is a trace as it is, with its beginning and its end: there is no level to look for.
    """
    if rule == "by_arrival":
        return []
    sessions = [result for result in results if np.isfinite(result.metric("sessions")).any()]
    return [*_too_short(name, sessions), *_cut(sessions)] if sessions else []


def _too_short(name: str, results: Sequence[Measured]) -> list[str]:
    """By the shortest stay of all cells: what lasts long because a pool is overloaded is no fault of the window."""
    stay_s = min(_stay_s(result) for result in results)
    start_s = min(_mean(result, "window_start_s") for result in results)
    length_s = min(_mean(result, "window_until_s") - _mean(result, "window_start_s") for result in results)
    short = [
        f"{what} of {number(seconds)} s"
        for what, seconds in (("a warm-up", start_s), ("a window", length_s))
        if seconds < stay_s
    ]
    if not short:
        return []
    last = f"last {number(stay_s)} s" if math.isfinite(stay_s) else "last too long to be seen whole"
    return [
        f"warning: {name} has {' and '.join(short)}, and its sessions {last} (95 % of the requests are in sessions no "
        "longer): what it measures may be the beginning of a ramp. Longer ones tell (warmup_s=auto until_s=auto choose "
        "by how long sessions last under least_load)"
    ]


def _cut(results: Sequence[Measured]) -> list[str]:
    cut = [result for result in results if _mean(result, "cut_sessions") > 0]
    if not cut:
        return []
    worst = max(cut, key=lambda result: _mean(result, "cut_sessions") / _mean(result, "sessions"))
    share = _mean(worst, "cut_sessions") / _mean(worst, "sessions")
    where = ", ".join([worst.label, *(f"{field}={value}" for field, value in worst.point.items())])
    return [
        f"in {len(cut)} of {len(results)} cells the run was stopped (drain_s) before all counted sessions had ended: "
        f"those are misses, at most {share:.1%} of the sessions ({where})"
    ]


def _stay_s(result: Measured) -> float:
    """NaN where too few sessions have ended to tell: longer than the run."""
    stays = result.metric("stay_s")
    return math.inf if np.isnan(stays).any() else float(stays.mean())


def _mean(result: Measured, metric: str) -> float:
    return float(np.mean(result.metric(metric)))
