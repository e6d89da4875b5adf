"""GoodServe's rectify step: re-predict every active request's finish, move those that would miss and can be saved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

from gsim.core import ActiveRequests, ClusterView, ConfigError, Migration, register
from gsim.core.view import Bools, Floats, Ints
from gsim.migration.slots import Slots

#: Cells of the requests x instances matrix that are looked at together: few enough to stay in the processor's cache.
_CHUNK_CELLS = 1 << 14
_CHOICES = ("largest_t", "weakest", "fastest")


class _Outlook(NamedTuple):
    """What the monitor expects of the requests that it looks at (arrays of equal length)."""

    row: Ints
    """Their rows in ``ActiveRequests``."""
    remaining_tokens: Floats
    finish_s: Floats
    """Where they are."""
    latest_s: Floats
    """When they must finish at a target to count as saved."""

    def part(self, start: int, stop: int) -> _Outlook:
        """Some of them."""
        at = slice(start, stop)
        return _Outlook(self.row[at], self.remaining_tokens[at], self.finish_s[at], self.latest_s[at])


@register("rectifier", "risk_monitor")
@dataclass
class RiskMonitor:
    """Migrates requests that will miss their deadline to a just-good-enough instance that still makes it.

    A request is at risk when now + remaining tokens x TPOT (and, before its first token, what is left of queueing and
    prefill) lies beyond its deadline less ``margin_s``. A target qualifies when now + cost of the move (queueing there
    included) + remaining tokens x its TPOT is ``target_margin_s`` ahead of the deadline and ``min_gain_s`` better than
    staying, and few of its own requests are at risk (a strong instance that is overloaded saves nobody). Requests are
    served by earliest deadline. Ties: the earlier row, the lower instance index.
    """

    interval_s: float = 0.25
    """Seconds between two reviews (the experiment ``monitor_interval`` chose it)."""
    margin_s: float = 0.0
    """Act when the predicted finish is later than the deadline less this (negative: wait until it is that late)."""
    target_margin_s: float = 0.5
    """A target must make the deadline with this to spare: estimates err, and requests must not wander."""
    min_gain_s: float = 0.5
    """A target must finish the request at least this much earlier than staying would."""
    max_moves: int = 2
    """Migrations per request."""
    max_inflight: int = 4
    """Migrations that an instance takes part in at a time, as source or target (and so begins in one review)."""
    no_return_s: float = 30.0
    """A request does not go back to the instance it came from for this long after a move."""
    max_target_risk: float = 0.3
    """An instance takes nobody in while more than this share of its own requests is at risk; 1: no such limit."""
    choice: str = "largest_t"
    """Which qualifying target: ``largest_t`` (latest finish that makes it), ``weakest`` (slowest card by nominal decode
    speed, then latest finish) or ``fastest`` (earliest finish)."""
    max_candidates: int = 2048
    """Requests at risk that one review weighs against targets, at most (earliest deadline first)."""
    needs: ClassVar[frozenset[str]] = frozenset({"scrape", "estimates", "prediction"})
    _slots: Slots = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.interval_s > 0:
            raise ConfigError(f"rectifier.interval_s must be greater than 0, not {self.interval_s}")
        for name in ("target_margin_s", "min_gain_s", "no_return_s"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"rectifier.{name} must be 0 or more, not {getattr(self, name)}")
        for name in ("max_moves", "max_inflight", "max_candidates"):
            if getattr(self, name) < 1:
                raise ConfigError(f"rectifier.{name} must be 1 or more, not {getattr(self, name)}")
        if not 0 <= self.max_target_risk <= 1:
            raise ConfigError(f"rectifier.max_target_risk must be in [0, 1], not {self.max_target_risk}")
        if self.choice not in _CHOICES:
            raise ConfigError(f"rectifier.choice '{self.choice}' is unknown; allowed: {', '.join(_CHOICES)}")
        self._slots = Slots(self.max_inflight)

    def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
        """The moves that save requests, given what is moving already."""
        remaining = np.maximum(active.predicted_tokens - active.generated_tokens, 1.0)
        source = active.instance
        finish_s = view.now_s + remaining * view.tpot_s[source]
        _add_wait(finish_s, active, view)
        late = finish_s > active.deadline_s - self.margin_s
        if not late.any():
            return ()
        self._slots.refresh(active, len(view))
        able = view.available & self._calm(late, source, len(view))
        if not (able & (self._slots.free > 0)).any():
            return ()
        outlook = self._savable(late, remaining, finish_s, able, active, view)
        return list(self._rescues(outlook, able, active, view))

    def _calm(self, late: Bools, source: Ints, instances: int) -> Bools:
        """Which instances have few enough requests at risk to take in others'."""
        held = np.bincount(source, minlength=instances)
        risky = np.bincount(source[late], minlength=instances)
        return risky <= self.max_target_risk * held

    def _savable(
        self,
        late: Bools,
        remaining: Floats,
        finish_s: Floats,
        able: Bools,
        active: ActiveRequests,
        view: ClusterView,
    ) -> _Outlook:
        """The requests at risk that may move and are not beyond rescue, by earliest deadline."""
        latest_s = active.deadline_s - self.target_margin_s
        open_ = able & (self._slots.free > 0)
        # The best that any target could do (its queue and speed taken apart): what misses even so is beyond rescue.
        best_s = view.now_s + view.queue_s[open_].min() + remaining * view.tpot_s[open_].min()
        rows = np.flatnonzero(
            late
            & (best_s <= np.minimum(latest_s, finish_s - self.min_gain_s))
            & (active.moves < self.max_moves)
            & ~active.moving
            & (self._slots.free[active.instance] > 0)
        )
        rows = rows[np.argsort(active.deadline_s[rows], kind="stable")][: self.max_candidates]
        return _Outlook(rows, remaining[rows], finish_s[rows], latest_s[rows])

    def _rescues(
        self, outlook: _Outlook, able: Bools, active: ActiveRequests, view: ClusterView
    ) -> Iterator[Migration]:
        free = self._slots.free
        room_tokens = view.static.kv_capacity_tokens * (1.0 - view.kv_usage)
        rows = max(_CHUNK_CELLS // len(view), 1)
        for start in range(0, len(outlook.row), rows):
            part = outlook.part(start, start + rows)
            open_ = able & (free > 0)
            if not open_.any():
                return
            savers = self._savers(part, open_, room_tokens, active, view)
            for k in np.flatnonzero(savers.any(axis=1)).tolist():
                row = int(part.row[k])
                source = int(active.instance[row])
                targets = savers[k].nonzero()[0]
                if free[source] <= 0 or not len(targets):
                    continue
                bound_s = min(float(part.latest_s[k]), float(part.finish_s[k]) - self.min_gain_s)
                target = self._target(row, targets, float(part.remaining_tokens[k]), bound_s, active, view)
                if target is not None:
                    request_id = int(active.request_id[row])
                    self._slots.take(request_id, source, target)
                    for end in (source, target):
                        if free[end] <= 0:
                            savers[:, end] = False
                    yield Migration(request_id, target, "at risk")
                    if not able[free > 0].any():
                        return

    def _savers(
        self, part: _Outlook, open_: Bools, room_tokens: Floats, active: ActiveRequests, view: ClusterView
    ) -> Bools:
        """Which of the open instances would save whom (a row each) by a move that costs nothing but the queue.

        The others need no closer look.
        """
        row, source = part.row, active.instance[part.row]
        reach_s = part.remaining_tokens[:, None] * view.tpot_s
        reach_s += view.now_s + view.queue_s
        savers = reach_s <= np.minimum(part.latest_s, part.finish_s - self.min_gain_s)[:, None]
        savers &= open_
        context_tokens = active.prompt_tokens[row] + active.generated_tokens[row]
        savers &= room_tokens >= (context_tokens + part.remaining_tokens)[:, None]
        savers[np.arange(len(row)), source] = False
        fresh = (view.now_s - active.moved_s[row] < self.no_return_s).nonzero()[0]
        savers[fresh, active.previous[row[fresh]]] = False
        return savers

    def _target(
        self,
        row: int,
        targets: Ints,
        remaining_tokens: float,
        bound_s: float,
        active: ActiveRequests,
        view: ClusterView,
    ) -> int | None:
        """Where one request goes, of some targets: it must finish there by ``bound_s``, its move's cost included. None
        if it makes it nowhere."""
        tokens = int(active.prompt_tokens[row] + active.generated_tokens[row])
        costs_s = view.move_cost_s(tokens, int(active.instance[row]), targets)
        return self._choose(targets, view.now_s + costs_s + remaining_tokens * view.tpot_s[targets], bound_s, view)

    def _choose(self, targets: Ints, finish_s: Floats, bound_s: float, view: ClusterView) -> int | None:
        """The just-good-enough of some targets, given when the request would finish there; None if none makes it."""
        good = finish_s <= bound_s
        if self.choice == "fastest":
            best = int(finish_s.argmin())
        else:
            finish_s = np.where(good, finish_s, -np.inf)
            if self.choice == "weakest":
                tpot_s = np.where(good, view.static.nominal_tpot_s[targets], -np.inf)
                finish_s = np.where(tpot_s == tpot_s.max(), finish_s, -np.inf)
            best = int(finish_s.argmax())
        return int(targets[best]) if good[best] else None


def _add_wait(finish_s: Floats, active: ActiveRequests, view: ClusterView) -> None:
    """Add what is left of queueing and prefill before a first token: the estimate for a request sent when this one was.

    Nothing once tokens stream. A request that has waited longer than estimated is expected to need its prefill yet.
    """
    rows = np.flatnonzero(active.generated_tokens == 0)
    if len(rows):
        source = active.instance[rows]
        prefill_s = active.prompt_tokens[rows] * view.prefill_s_per_token[source]
        due_s = active.dispatched_s[rows] + view.queue_s[source] + prefill_s
        finish_s[rows] += np.maximum(due_s - view.now_s, prefill_s)
