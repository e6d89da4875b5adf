"""Moves where they add to what is in time, both sides counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gsim.core import ActiveRequests, ClusterView, ConfigError, Migration, register
from gsim.core.view import Floats, Ints
from gsim.lateness.chance import chances
from gsim.lateness.delay_costs import DelayCosts, Running
from gsim.migration.slots import Slots

#: Who is so sure to be in time is not looked at.
_SURE = 0.9


@dataclass(frozen=True)
class _Outlook:
    """What is expected of the requests in flight (one entry each), and of the pool."""

    to_decode: Floats
    in_time: Floats
    """The chance of each to be in time where it is."""
    mean_to_decode: Floats
    """Per instance, over its requests."""
    slope_s: Floats
    """Per instance: what one more request adds to its TPOT."""
    costs: DelayCosts


@register("rectifier", "marginal")
@dataclass
class MarginalMoves:
    """Moves a request where the expected number of requests in time rises by ``least_gain`` or more.

    gain = (P_k - P_i) + R_i - E_k: its own chance at the target k less that where it is (i), what its leaving gives
    to those that stay, less what its coming takes from those at k. P_k: latency from now on is log-normal around the
    move's cost (queueing and recomputing there included) plus its remaining tokens at k's TPOT with it. E_k: the
    expected number made late by p_k context + s_k min(to decode), R_i: by s_i min(to decode) (``DelayCosts``). Largest
    gains first; every move counts for the next. Ties: the earlier row, the lower index.

    State: learned estimates (S6), the length predictor, the streams of the requests in flight. Source: this project;
    the rule is that of ``router=marginal``.
    """

    interval_s: float = 0.25
    """Seconds between two reviews."""
    least_gain: float = 0.2
    """By how much the expected number in time must rise: estimates err, and requests must not wander."""
    deviation: float = 0.3
    """Standard deviation of the logarithm of what is left of a request's latency."""
    max_moves: int = 2
    """Migrations per request."""
    max_inflight: int = 4
    """Migrations that an instance takes part in at a time, as source or target."""
    max_candidates: int = 64
    """Requests that one review weighs, at most: those with the least chance where they are."""
    needs: ClassVar[frozenset[str]] = frozenset({"estimates", "prediction"})
    _slots: Slots = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("interval_s", "deviation"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"rectifier.{name} must be greater than 0, not {getattr(self, name)}")
        if not self.least_gain >= 0:
            raise ConfigError(f"rectifier.least_gain must be 0 or more, not {self.least_gain}")
        for name in ("max_moves", "max_inflight", "max_candidates"):
            if getattr(self, name) < 1:
                raise ConfigError(f"rectifier.{name} must be 1 or more, not {getattr(self, name)}")
        self._slots = Slots(self.max_inflight)

    def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
        """The moves that raise the expected number in time."""
        if not len(active):
            return ()
        outlook = self._outlook(active, view)
        unsure = (outlook.in_time < _SURE) & (view.now_s < active.deadline_s)
        unsure &= (active.moves < self.max_moves) & ~active.moving
        rows = np.flatnonzero(unsure)
        if not len(rows):
            return ()
        self._slots.refresh(active, len(view))
        rows = rows[np.argsort(outlook.in_time[rows], kind="stable")][: self.max_candidates]
        return list(self._moves(rows, outlook, active, view))

    def _moves(self, rows: Ints, outlook: _Outlook, active: ActiveRequests, view: ClusterView) -> Iterator[Migration]:
        gains = np.array([self._gains(row, outlook, active, view) for row in rows.tolist()])
        for k in np.argsort(-gains.max(axis=1), kind="stable").tolist():
            row, source = int(rows[k]), int(active.instance[rows[k]])
            # Earlier moves of this review have changed what a target has to lose.
            gain = self._gains(row, outlook, active, view)
            gain[self._slots.free <= 0] = -np.inf
            target = int(gain.argmax())
            if gain[target] < self.least_gain or self._slots.free[source] <= 0:
                continue
            request_id = int(active.request_id[row])
            self._slots.take(request_id, source, target)
            left_s = float(active.deadline_s[row]) - view.now_s
            outlook.costs.add(target, left_s, self._latency_s(row, outlook, active, view)[target], self.deviation)
            outlook.costs.take_one(source)
            yield Migration(request_id, target, "adds to what is in time")

    def _gains(self, row: int, outlook: _Outlook, active: ActiveRequests, view: ClusterView) -> Floats:
        """By how much the expected number in time rises if this request moves, per target (-inf: it cannot)."""
        source = int(active.instance[row])
        z = np.log(self._latency_s(row, outlook, active, view))
        np.subtract(np.log(active.deadline_s[row] - view.now_s), z, out=z)
        z /= self.deviation
        gain = chances(z)
        gain -= outlook.in_time[row]
        context = float(active.prompt_tokens[row] + active.generated_tokens[row])
        delay_s = outlook.slope_s * np.minimum(outlook.mean_to_decode, outlook.to_decode[row])
        relief = outlook.costs.of(delay_s)[source]
        gain -= outlook.costs.of(delay_s + view.prefill_s_per_token * context)
        gain += relief
        gain[~view.available] = -np.inf
        gain[source] = -np.inf
        return gain

    def _latency_s(self, row: int, outlook: _Outlook, active: ActiveRequests, view: ClusterView) -> Floats:
        """From now on, if this request moves, per target."""
        tokens = int(active.prompt_tokens[row] + active.generated_tokens[row])
        everywhere = np.arange(len(view))
        costs_s = view.move_cost_s(tokens, int(active.instance[row]), everywhere)
        latency_s: Floats = costs_s + outlook.to_decode[row] * (view.tpot_s + outlook.slope_s)
        return latency_s

    def _outlook(self, active: ActiveRequests, view: ClusterView) -> _Outlook:
        here, n = active.instance, len(view)
        to_decode = np.maximum(active.predicted_tokens - active.generated_tokens, 1.0)
        elapsed_s = np.maximum(view.now_s - active.dispatched_s, 1e-3)
        rest_s = to_decode * view.tpot_s[here]
        waiting = active.generated_tokens == 0
        due_s = view.queue_s[here] + active.prompt_tokens * view.prefill_s_per_token[here]
        rest_s += np.where(waiting, np.maximum(due_s - elapsed_s, 0.0), 0.0)
        median_s = elapsed_s + rest_s
        deviation = self.deviation * rest_s / median_s + 0.02
        in_time = Running(elapsed_s, active.deadline_s - active.dispatched_s, median_s, deviation).in_time()
        costs = DelayCosts()
        costs.reset(n, here, in_time)
        mean = np.bincount(here, weights=to_decode, minlength=n) / np.maximum(costs.count, 1.0)
        return _Outlook(to_decode, in_time[:, 0], mean, view.static.batch_slope_s(), costs)
