"""GoodServe's gain in goodput over every other policy of a study, paired over seeds, point by point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np

from gsim.metrics import paired_difference
from gsim.report.loading import LoadedCell, Results
from gsim.report.wording import known, level, place
from gsim.study.steadiness import has_no_level

#: The labels under which experiments run GoodServe as published (just enough, and migration), and without migration.
GOODSERVE = "GoodServe"
STILL = "GoodServe without migration"


@dataclass(frozen=True)
class Gain:
    """How much more goodput than another policy, as a share of that policy's; with its 95 % interval."""

    over: str
    point: Mapping[str, Any]
    share: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """The interval excludes 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        at = place([self.point])
        return self.told + (f" at {at}" if at else "")

    @property
    def told(self) -> str:
        """The share, with its interval where that is known."""
        return f"{self.share:+.1%}" + ("" if isnan(self.low) else f" [{self.low:+.1%}, {self.high:+.1%}]")


def gains(results: Results, of: str = GOODSERVE, metric: str = "goodput_rps") -> list[Gain]:
    """Of one policy over every other at every grid point that both have, in the study's order.

    Points at which one of the two has no level are left out where sessions come. A control that serves next to nobody
    (a twentieth of the policy's own goodput) is no base for a percentage.
    """
    found = []
    for cell in results.cells:
        own = next((c for c in results.cells if c.label == of and known(c.point) == known(cell.point)), None)
        if own is None or cell.label == of or _beyond(own, cell):
            continue
        first, second = _paired(own, cell, metric)
        base = float(np.mean(second)) if len(second) else 0.0
        if base > 0.05 * float(np.mean(first)) > 0:
            result = paired_difference(first, second)
            found.append(Gain(cell.label, cell.point, result.mean / base, result.low / base, result.high / base))
    return found


def _beyond(first: LoadedCell, second: LoadedCell) -> bool:
    """Of sessions (whose goodput depends on how long one looks): a policy that has no level gains and loses nothing."""
    return bool(np.isfinite(first.metric("session_attainment")).any()) and (has_no_level(first) or has_no_level(second))


def _paired(first: LoadedCell, second: LoadedCell, metric: str) -> tuple[np.ndarray, np.ndarray]:
    columns = [cell.runs.set_index("seed")[metric] for cell in (first, second)]
    seeds = [seed for seed in columns[0].index if seed in columns[1].index]
    return columns[0].loc[seeds].to_numpy(dtype=float), columns[1].loc[seeds].to_numpy(dtype=float)


def by_policy(found: list[Gain]) -> dict[str, list[Gain]]:
    """The gains over each policy, in order."""
    groups: dict[str, list[Gain]] = {}
    for gain in found:
        groups.setdefault(gain.over, []).append(gain)
    return groups


def largest(found: list[Gain]) -> Gain:
    """Where it is largest. (The largest of several differences is a little too large by selection.)"""
    return max(found, key=lambda gain: gain.share)


def least(found: list[Gain]) -> Gain:
    """Where it is least."""
    return min(found, key=lambda gain: gain.share)


def gain_rows(results: Results) -> list[list[str]]:
    """A row per other policy: the largest and (of several) the least gain, each with its interval and grid point."""
    groups = by_policy(gains(results))
    several = any(len(found) > 1 for found in groups.values())
    rows = []
    for policy, found in groups.items():
        row = [policy]
        for gain in (largest(found), least(found)) if several else found:
            row.append(gain.told)
            row += [", ".join(level(value) for value in known(gain.point).values())] if several else []
        rows.append(row)
    return rows
