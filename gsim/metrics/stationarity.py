"""Whether a cell has a level at all: a test of drift over its seeds, with a practical tolerance.

A pool beyond its capacity has no attainment: the number of requests in it grows for as long as load comes, and what a
window sees depends on where the window is. So a mean over a window may be called a level only where nothing drifts.
Three things are looked at in each run (``gsim.metrics.drift``), each as a change over the window in parts of its own
level: the sessions in the system, the requests in the system, and the time in the system as a share of the deadline.
Runs of different seeds are independent, whatever the autocorrelation inside each, so their t-interval is honest.

A cell is **not stationary** where one of these holds:

- a drift is *shown* (its interval over seeds excludes 0) and *material* (more than ``MATERIAL`` of the level);
- a drift is *gross*: its mean over seeds is more than ``GROSS``, shown or not;
- the attainment of the two halves of the window differs by more than ``HALVES``.

A number in the system that drifts while the time in it does not is mostly what arrives by chance (Little's law): at a
light load a hundred sessions of a minute each come and go by tens. There a drift must be both shown and gross.

Two things look like a drift and need be none. A pool that is counted while it fills (``_filling``): a cell that nothing
else speaks against is not decided. And the cuts at a run's end, which are misses of the window's second half: that much
of the difference between the halves is not held against a cell (``_halves``).

(With one or two seeds the last two take twice as much: so few never make a level, and should not deny one by chance.)

It is **stationary** only where a drift of ``EXCLUDED`` or more of the time in the system is excluded too: its one-sided
95 % bounds are inside. (By Little's law that is the number in the system without the noise of the arrivals.) So noise
never hides growth. Bounds that must be passed for a claim (equivalence testing; Schuirmann 1987, "A comparison of the
two one-sided tests procedure and the power approach") put the burden on the level, not on the drift.

Otherwise it is **not decided**: seeds, requests or window are too few to say, or near the knee the number in the system
wanders too widely; more seeds or a longer window tell. The level of "shown" is shared between the three drifts
(Bonferroni), so that a cell far below its capacity fails by chance no more often than in one of twenty tests.
``docs/studies.md`` has how often the test is right on queues whose truth is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsim.metrics.statistics import Interval, mean_interval

MATERIAL = 0.10
"""A change over the window of this part of the level matters, if it is shown."""
GROSS = 0.35
"""A change of this part is no level, whatever its interval."""
EXCLUDED = 0.50
"""A change of this part must be excluded (95 %) before anything is called a level."""
HALVES = 0.05
"""How far the attainment of the window's halves may be apart."""
FEWEST_SEEDS = 3
FEWEST_REQUESTS = 100
"""Counted requests of a run, below which a drift is not looked for."""
STAYS = 3.0
"""A window must be this many times as long as the mean time in the system."""

_LEVEL = 0.95
_UNKNOWN = Interval(math.nan, math.nan, math.nan)
DRIFTING = ("sessions_drift", "requests_drift", "latency_drift")
_NAMES = {"sessions_drift": "sessions in the system", "requests_drift": "requests in the system"}


@dataclass(frozen=True)
class Stationarity:
    """The verdict on a cell."""

    stationary: bool | None
    """None: it cannot be said."""
    because: str = ""
    """Why it is not stationary, or why that cannot be said; empty for a level."""
    growth: Interval = _UNKNOWN
    """Of the number in the system, per second, with its 95 % interval over seeds."""
    unit: str = "requests"
    """What is counted by ``growth``: sessions, where they have several requests, else requests."""

    settling: bool = False
    """Attainment rises: what grows is a system that fills, after too short a warm-up."""

    @property
    def grows(self) -> bool:
        """The number in the system is shown to grow: beyond capacity, where the load itself is steady."""
        return self.stationary is False and self.growth.low > 0 and not self.settling


def judge(runs: Mapping[str, Sequence[float] | np.ndarray[Any, Any]]) -> Stationarity:
    """The verdict from one value per seed of the drifts (``DRIFTS``), ``requests``, ``window_s`` and ``stay_s``.

    ``window_s`` is the length of the counted window and ``stay_s`` the mean time of a session (or single request) in
    the system. What is missing is not judged; without any drift the answer is None.
    """
    values = {name: np.asarray(column, dtype=float) for name, column in runs.items()}
    unit = "requests" if _single(values) else "sessions"
    growth = mean_interval(values.get(f"growth_{unit}_per_s", np.array([])))
    against = _drifts(values, growth, unit) or _halves(values)
    filling = _filling(values, growth, unit) if against else ""
    if against and not filling:
        return Stationarity(False, against, growth, unit, _halves(values).startswith("attainment rises"))
    unsaid = filling or _unsaid(values)
    return Stationarity(None if unsaid else True, unsaid, growth, unit)


def _filling(values: Mapping[str, np.ndarray[Any, Any]], growth: Interval, unit: str) -> str:
    """That growth may be a pool that fills from empty, in words; empty where it is more than that, or cannot be told.

    Of a steady load, the number in the system rises for one stay S and is flat then (Little's law). What a window of W
    seconds from w on sees of that has, with x = (S - w) / W, a slope of 3x^2 - 2x^3 of what arrives (the least-squares
    line of a ramp that ends after a part x of the window). Growth of up to twice that is not told from filling, unless
    the time in the system grows grossly too: a pool that fills slows down by its batches, and not by a queue.
    """
    arriving, x = _arriving(values, unit), _ramp_part(values)
    queues = _told(values, "latency_drift") and float(np.nanmean(values["latency_drift"])) > GROSS
    most = 2.0 * (3.0 * x**2 - 2.0 * x**3)
    if x == 0.0 or queues or not arriving > 0 or not 0 < growth.mean <= most * arriving:
        return ""
    warmup_s, stay_s = (float(np.nanmean(values[name])) for name in ("warmup_s", "stay_s"))
    return (
        f"a warm-up of {warmup_s:.3g} s is shorter than the mean stay of {stay_s:.3g} s: what grows may be a pool that "
        "fills; a later and longer window would tell"
    )


def _ramp_part(values: Mapping[str, np.ndarray[Any, Any]]) -> float:
    """The part of the window in which a pool that began empty still fills, 0 to 1; 0 where that is not known."""
    if not all(_told(values, name) for name in ("warmup_s", "window_s", "stay_s")):
        return 0.0
    warmup_s, window_s, stay_s = (float(np.nanmean(values[name])) for name in ("warmup_s", "window_s", "stay_s"))
    return min(max((stay_s - warmup_s) / window_s, 0.0), 1.0)


def _arriving(values: Mapping[str, np.ndarray[Any, Any]], unit: str) -> float:
    """Requests or sessions that arrive per second; NaN where it is not known."""
    if unit == "requests":
        return float(np.nanmean(values["arrived_rps"])) if _told(values, "arrived_rps") else math.nan
    if not (_told(values, "sessions") and _told(values, "window_s")):
        return math.nan
    return float(np.nanmean(values["sessions"] / values["window_s"]))


def _told(values: Mapping[str, np.ndarray[Any, Any]], name: str) -> bool:
    return name in values and bool(np.isfinite(values[name]).any())


def _single(values: Mapping[str, np.ndarray[Any, Any]]) -> bool:
    """Sessions of one request each, or none recorded: as many sessions are open as requests."""
    if not _told(values, "growth_sessions_per_s"):
        return True
    names = ("sessions_in_system", "requests_in_system")
    sessions, requests = (values.get(name, np.array([math.nan])) for name in names)
    return sessions.shape == requests.shape and bool(np.allclose(sessions, requests))


def _halves(values: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """The halves of the window, of the mean over seeds."""
    if not (_told(values, "attainment_first_half") and _told(values, "attainment_second_half")):
        return ""
    first, second = (float(np.nanmean(values[f"attainment_{half}_half"])) for half in ("first", "second"))
    if second < first:
        # Who is cut at the run's end began late, and is a miss of the second half: at most that much of it is no drift.
        second = min(first, second + 2.0 * _cut_share(values))
    if abs(first - second) <= HALVES * _slack(values):
        return ""
    way = "falls" if second < first else "rises"
    return f"attainment {way} from {first:.2f} to {second:.2f} between the halves of the window"


def _cut_share(values: Mapping[str, np.ndarray[Any, Any]]) -> float:
    """The part of the counted requests that was cut at the run's end."""
    if not (_told(values, "cut") and _told(values, "requests")):
        return 0.0
    return float(np.nanmean(values["cut"]) / max(float(np.nanmean(values["requests"])), 1.0))


def _drifts(values: Mapping[str, np.ndarray[Any, Any]], growth: Interval, unit: str) -> str:
    """The first drift that is shown and material, or gross: in words."""
    gross = GROSS * _slack(values)
    longer = float(np.nanmean(values["latency_drift"])) if _told(values, "latency_drift") else math.nan
    for name in DRIFTING:
        if not _told(values, name) or (name == "sessions_drift" and unit == "requests"):
            continue
        mean, low, high = mean_interval(values[name], 1.0 - (1.0 - _LEVEL) / 3.0)
        shown = low > 0 or high < 0
        wanders = abs(longer) <= MATERIAL or mean * longer < 0
        if not (shown and abs(mean) > gross if wanders else abs(mean) > gross or (shown and abs(mean) > MATERIAL)):
            continue
        if name == "latency_drift":
            return f"latency {'grows' if mean > 0 else 'falls'} by {abs(mean):.0%} of its mean over the window"
        if name.startswith(unit):
            way = "grow" if growth.mean > 0 else "fall"
            return f"{_NAMES[name]} {way} by {_rate(abs(growth.mean))} per second"
        return f"{_NAMES[name]} {'grow' if mean > 0 else 'fall'} by {abs(mean):.0%} over the window"
    return ""


def _unsaid(values: Mapping[str, np.ndarray[Any, Any]]) -> str:
    if not any(_told(values, name) for name in DRIFTING):
        return "nothing was recorded over time"
    seeds = _seeds(values)
    if seeds < FEWEST_SEEDS:
        return f"{seeds} seed{'s' if seeds > 1 else ''} cannot tell ({FEWEST_SEEDS} or more can)"
    if _told(values, "requests") and float(np.nanmin(values["requests"])) < FEWEST_REQUESTS:
        return f"fewer than {FEWEST_REQUESTS} counted requests in a run"
    if _told(values, "window_s") and _told(values, "stay_s"):
        window_s, stay_s = float(np.nanmean(values["window_s"])), float(np.nanmean(values["stay_s"]))
        if window_s < STAYS * stay_s:
            return (
                f"the window of {window_s:.0f} s is shorter than {STAYS:.0f} mean times in the system ({stay_s:.0f} s)"
            )
    wandering = _wandering(values)
    if wandering:
        return wandering
    if not _excluded(values):
        return f"a drift of {EXCLUDED:.0%} over the window is not excluded; more seeds or a longer window would tell"
    return ""


def _wandering(values: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """Counted from a pool that may still fill, a number in the system that changes grossly makes no level."""
    if _ramp_part(values) == 0.0:
        return ""
    for name, words in _NAMES.items():
        if _told(values, name):
            drift = float(np.nanmean(values[name]))
            if abs(drift) > GROSS * _slack(values):
                return f"{words} {'grow' if drift > 0 else 'fall'} by {drift:.0%} over the window, and latency does not"
    return ""


def _seeds(values: Mapping[str, np.ndarray[Any, Any]]) -> int:
    return max((len(column) for column in values.values()), default=0)


def _slack(values: Mapping[str, np.ndarray[Any, Any]]) -> float:
    return 1.0 if _seeds(values) >= FEWEST_SEEDS else 2.0


def _excluded(values: Mapping[str, np.ndarray[Any, Any]]) -> bool:
    """Time in the system cannot drift as much as that: two one-sided 95 % bounds are the ends of a 90 % interval.

    Of the time in the system, and of the numbers only where that is not known: what arrives by chance makes the numbers
    wander at a light load too.
    """
    name = next(name for name in reversed(DRIFTING) if _told(values, name))
    _, low, high = mean_interval(values[name], 2.0 * _LEVEL - 1.0)
    return low > -EXCLUDED and high < EXCLUDED


def _rate(value: float) -> str:
    return f"{value:.1f}" if value >= 0.95 else f"{value:.2g}"
