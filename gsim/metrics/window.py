"""Which requests and sessions of a run are counted, and what went on in it over time.

Three rules. ``by_arrival``: requests that arrive inside the window. ``by_session``: all requests of the sessions that
*begin* inside it, so that what is counted does not depend on how fast the pool is (a fast pool makes agents ask again
sooner). ``by_completion``: requests that end inside it, which is what a closed population gets done per second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from gsim.core import ConfigError, Status

Columns = Mapping[str, np.ndarray[Any, Any]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Rule = Literal["by_arrival", "by_session", "by_completion"]
RULES: tuple[Rule, ...] = get_args(Rule)

#: Equal parts of a run in which it is followed over time.
BINS = 80


@dataclass(frozen=True)
class Window:
    """The part of a run that is counted: from ``start_s`` to just before ``until_s``, by one of the rules."""

    start_s: float = 0.0
    until_s: float = math.inf
    rule: Rule = "by_arrival"

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ConfigError(f"count must be one of {', '.join(RULES)}; not {self.rule!r}")
        if not 0 <= self.start_s < self.until_s:
            raise ConfigError(f"the window ends at {self.until_s} s, before it starts at {self.start_s} s")

    def requests(self, rows: Columns) -> np.ndarray[Any, Any]:
        """Which requests are counted."""
        return self._inside(counted_at_s(rows, self.rule))

    def sessions(self, rows: Columns) -> np.ndarray[Any, Any]:
        """Which sessions are: those that begin inside the window (by completion: whole ones that end inside it)."""
        if self.rule == "by_completion":
            return self._inside(rows["finished_s"]) & ~np.isnan(rows["arrival_s"])
        return self._inside(rows["arrival_s"])

    def span_s(self, times: Floats) -> tuple[float, float]:
        """Where the window really begins and ends, for things that are counted by these instants.

        Counted by arrival, or without an end, it ends with the last of them: after that there is no load; and where the
        first of them comes late (times that do not count from the trace's beginning), it begins with that. By session
        or by completion the load goes on until its end.
        """
        known = times[~np.isnan(times)]
        start_s = self.start_s if self.start_s > 0 or not len(known) else min(0.0, float(known.min()))
        if self.rule != "by_arrival" and self.until_s < math.inf:
            return start_s, self.until_s
        if not len(known):
            return start_s, -math.inf
        first_s, latest_s = float(known.min()), float(known.max())
        if self.start_s == 0.0 and first_s > _late_s(first_s, latest_s, len(known)):
            start_s = first_s
        return start_s, min(self.until_s, latest_s)

    def _inside(self, times: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.asarray((times >= self.start_s) & (times < self.until_s))


def _late_s(first_s: float, latest_s: float, count: int) -> float:
    """From when on a first arrival is late: ten times the mean time between two, and a tenth of them all."""
    return max(10.0 * (latest_s - first_s) / max(count - 1, 1), 0.1 * (latest_s - first_s))


def counted_at_s(requests: Columns, rule: Rule) -> Floats:
    """The instant of each request by which it is counted (NaN: it is not)."""
    if rule == "by_session":
        return session_began_s(requests)
    if rule == "by_completion":
        return np.where(requests["status"] == Status.CUT, math.nan, requests["ended_s"])
    return requests["arrival_s"]


def session_began_s(requests: Columns) -> Floats:
    """When the session of each request began; NaN where it was under way when the run began.

    A session begins with its first request. One whose first turn is not among the rows began before the run. Rows that
    have a column of this name (``with_beginnings``) are taken at their word.
    """
    known = requests.get("session_began_s")
    if known is not None:
        return known
    arrival_s, session = requests["arrival_s"], requests["session_id"]
    if not len(session):
        return np.zeros(0)
    # A negative id says that the request belongs to none: it is a session of its own.
    key = np.where(session < 0, -1 - np.arange(len(session)), session)
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=key[order[0]] - 1))
    began_s = np.minimum.reduceat(np.where(np.isnan(arrival_s), math.inf, arrival_s)[order], starts)
    first_turn = np.minimum.reduceat(requests["turn"][order], starts)
    began_s[(first_turn > 0) | np.isinf(began_s)] = math.nan
    result = np.empty(len(session))
    result[order] = np.repeat(began_s, np.diff(starts, append=len(session)))
    return result


def with_beginnings(requests: Columns) -> Columns:
    """The rows with ``session_began_s`` as a column: worked out once, where several count by it."""
    return {**requests, "session_began_s": session_began_s(requests)}


def over_time(requests: Columns, window: Window, good: np.ndarray[Any, Any]) -> dict[str, list[float]]:
    """A run in ``BINS`` equal parts, from 0 to the window's end: what stationarity is tested on.

    ``time_s``: the edges; per part, ``requests`` and ``sessions``: how many were open on average (a session also while
    its agent waits for a tool), ``counted`` and ``good``: requests, by the instant by which they are counted.
    """
    at_s = counted_at_s(requests, window.rule)
    until_s = window.span_s(at_s)[1]
    if not (math.isfinite(until_s) and until_s > 0):
        return {"time_s": [], "requests": [], "sessions": [], "counted": [], "good": []}
    edges = np.linspace(0.0, until_s, BINS + 1)
    arrived = ~np.isnan(requests["arrival_s"])
    rows = {name: values[arrived] for name, values in requests.items()}
    ended_s = np.where(rows["status"] == Status.CUT, math.inf, rows["ended_s"])
    counted = window.requests(requests)
    return {
        "time_s": edges.tolist(),
        "requests": _open(rows["arrival_s"], ended_s, edges).tolist(),
        "sessions": _open(*_sessions(rows, ended_s), edges).tolist(),
        "counted": np.histogram(at_s[counted], edges)[0].tolist(),
        "good": np.histogram(at_s[counted & good], edges)[0].tolist(),
    }


def _sessions(rows: Columns, ended_s: Floats) -> tuple[Floats, Floats]:
    """When each session's first request arrived, and when its last one ended."""
    session = np.where(rows["session_id"] < 0, -1 - np.arange(len(ended_s)), rows["session_id"])
    order = np.argsort(session, kind="stable")
    if not len(order):
        return np.zeros(0), np.zeros(0)
    starts = np.flatnonzero(np.diff(session[order], prepend=session[order[0]] - 1))
    return np.minimum.reduceat(rows["arrival_s"][order], starts), np.maximum.reduceat(ended_s[order], starts)


def _open(begin_s: Floats, end_s: Floats, edges: Floats) -> Floats:
    """How many are open on average between each two edges."""
    return np.diff(_time_since(begin_s, edges) - _time_since(end_s, edges)) / np.diff(edges)


def _time_since(instants_s: Floats, at_s: Floats) -> Floats:
    """The sum over all instants of the seconds that have passed since then."""
    ordered = np.sort(instants_s)
    before = np.searchsorted(ordered, at_s, side="right")
    total = np.concatenate([[0.0], np.cumsum(np.where(np.isinf(ordered), 0.0, ordered))])
    return np.asarray(before * at_s - total[before])
