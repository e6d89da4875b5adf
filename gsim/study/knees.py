"""The knee of every policy of a sweep: the largest offered load at which it has a level with 95 % in time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsim.metrics import Interval, positive_interval
from gsim.study.measured import Measured
from gsim.study.steadiness import steadiness

#: Axes that say how much is offered.
LOADS = ("trace.rate_per_s", "trace.agents")
TARGET = 0.95


@dataclass(frozen=True)
class PolicyKnee:
    """Where one policy stops to carry the load."""

    policy: str
    point: Mapping[str, Any]
    """What else was swept."""
    knee: float
    """The largest load tried that has a level with the target in time; NaN: none has."""
    beyond: float
    """The next load tried, which has not; NaN: the knee is above the highest load tried."""
    crossing: Interval
    """Where attainment crosses the target, interpolated seed by seed between the loads tried (95 % interval over
    seeds); NaN where a seed never crosses, or where the next load has no level: what attains there depends on how long
    one looks."""
    said: str
    """What is to be known of it, in words."""

    @property
    def best_known(self) -> float:
        """The crossing where there is one, else the knee."""
        return self.crossing.mean if math.isfinite(self.crossing.mean) else self.knee

    def rank(self) -> tuple[bool, float]:
        """To sort by: a knee above the highest load tried is the highest, one below the lowest the lowest."""
        return math.isnan(self.beyond), -1.0 if math.isnan(self.knee) else self.best_known

    def row(self, name: str, axis: str) -> dict[str, Any]:
        """For ``knees.csv``."""
        return {
            "experiment": name,
            **self.point,
            "policy": self.policy,
            "load": axis,
            "target": TARGET,
            "knee": self.knee,
            "next_load_tried": self.beyond,
            "crossing": self.crossing.mean,
            "crossing_low": self.crossing.low,
            "crossing_high": self.crossing.high,
            "said": self.said,
        }


def knees(results: Sequence[Measured], axis: str | None, target: float = TARGET) -> list[PolicyKnee]:
    """Of every policy, per value of whatever else was swept; empty where the axis is no load or has one value."""
    if axis not in LOADS:
        return []
    groups: dict[tuple[str, str], list[Measured]] = {}
    for result in results:
        if isinstance(result.point.get(axis), int | float):
            groups.setdefault((result.label, repr(_others(result, axis))), []).append(result)
    return [_knee(cells, axis, target) for cells in groups.values() if len(cells) > 1]


def _others(result: Measured, axis: str) -> dict[str, Any]:
    return {field: value for field, value in result.point.items() if field != axis}


def _knee(cells: Sequence[Measured], axis: str, target: float) -> PolicyKnee:
    cells = sorted(cells, key=lambda cell: float(cell.point[axis]))
    loads = [float(cell.point[axis]) for cell in cells]
    shares = [float(np.nanmean(cell.metric("attainment"))) for cell in cells]
    told = [steadiness(cell).stationary for cell in cells]
    holds = [share >= target and steady is not False for share, steady in zip(shares, told, strict=True)]
    head = (cells[0].label, _others(cells[0], axis))
    if not any(holds):
        why = "no load tried has a level with the target in time"
        return PolicyKnee(*head, math.nan, loads[0], _NONE, why)
    at = max(i for i, held in enumerate(holds) if held)
    words = []
    if not all(holds[:at]):
        missed = ", ".join(f"{load:g}" for load, held in zip(loads[:at], holds, strict=False) if not held)
        words.append(f"not monotone: it does not hold at {missed}")
    if told[at] is None:
        words.append("whether the knee has a level cannot be said")
    if at == len(cells) - 1:
        return PolicyKnee(*head, loads[at], math.nan, _NONE, "; ".join(["above the highest load tried", *words]))
    if told[at + 1] is False:
        words.append(
            "the level ends before the attainment does"
            if shares[at + 1] >= target
            else "the next load has no level, so nothing is interpolated"
        )
        return PolicyKnee(*head, loads[at], loads[at + 1], _NONE, "; ".join(words))
    by_load = [cell.metric("attainment") for cell in cells[: at + 2]]
    return PolicyKnee(*head, loads[at], loads[at + 1], _crossing(loads[: at + 2], by_load, target), "; ".join(words))


_NONE = Interval(math.nan, math.nan, math.nan)


def _crossing(loads: Sequence[float], by_load: Sequence[np.ndarray[Any, Any]], target: float) -> Interval:
    """Over the seeds that all loads have, by position; no interval where one of them does not cross."""
    if len({len(values) for values in by_load}) > 1:
        return _NONE
    found = [crossing(loads, values, target) for values in np.array(by_load).T]
    if any(math.isnan(one) for one in found):
        return _NONE
    mean, low, high = positive_interval(found, most=loads[-1])
    return Interval(mean, max(low, loads[0]), high)


def crossing(loads: Sequence[float], shares: Sequence[float] | np.ndarray[Any, Any], target: float) -> float:
    """The load at which the share last falls below the target, by linear interpolation; NaN where it never does."""
    above = [i for i in range(len(loads)) if shares[i] >= target]
    if not above or above[-1] == len(loads) - 1:
        return math.nan
    i = above[-1]
    part = (shares[i] - target) / (shares[i] - shares[i + 1])
    return float(loads[i] + part * (loads[i + 1] - loads[i]))
