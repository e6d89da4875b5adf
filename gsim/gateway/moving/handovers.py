"""Handovers in simulated time: after its prefill leg a request goes on where a policy says, and its KV cache with it.

While its KV cache is on the wire, or waits for a place to go to, a request is on no instance and its source holds its
blocks. When the copy has arrived the source lets them go, and the request joins the target's queue, where it waits for
room if there is none. It is never lost: a copy dies with its source, and then the request begins again, by its token
ids; when the target dies first, another one is asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Protocol

import numpy as np

from gsim.core import BOTH, HOLD, PREFILL, REJECT, ClusterView, Handover, Outcome, PolicyView, Splitting, Status
from gsim.core.answers import instance_of, title
from gsim.core.view import Bools
from gsim.gateway.active import Active
from gsim.gateway.backend import Backend
from gsim.gateway.clock import Clock, Steps
from gsim.gateway.legs import Legs
from gsim.gateway.move_log import Move
from gsim.gateway.moving.links import LinkNetwork
from gsim.gateway.policies import needs_of
from gsim.handover.transfer import Transfer
from gsim.migration import MoveCosts
from gsim.migration.kv_copy import KvCopy
from gsim.migration.mechanism import blocks_of

# Instead of an instance: the request has to wait, or is refused.
_HELD: Final = -1
_REFUSED: Final = -2


@dataclass(frozen=True)
class Carrier:
    """What handovers need to know of a pool beyond the view: who decides, and what KV caches go over."""

    policy: Handover
    network: LinkNetwork
    kv_bytes_per_token: Sequence[int]
    longest_tokens: Sequence[int]
    """Prompt and output tokens that a request may have at most, per instance."""
    layers: Sequence[int]
    """Of each instance's model: KV caches are sent layer by layer, where they are sent during the prefill."""


class Placing(Protocol):
    """The gateway, as far as handovers use it."""

    clock: Clock
    view: ClusterView
    active: dict[int, Active]
    backends: list[Backend]
    counters: dict[str, int]
    legs: Legs

    def dispatch(self, active: Active, instance: int, kv_tokens: int = 0) -> None: ...  # noqa: D102
    def place(self, active: Active) -> None: ...  # noqa: D102
    def end(self, active: Active, status: Status, now_s: float) -> None: ...  # noqa: D102
    def set_moving(self, active: Active, moving: bool) -> None: ...  # noqa: D102


@dataclass(slots=True, eq=False)
class _Leg:
    """A request between its legs."""

    active: Active
    move: Move
    life: int
    """Of its source, when it was prefilled."""
    hidden_bytes: float = 0.0
    """What of its KV cache was sent during the prefill."""
    until_s: float = inf
    """Where it waits for a place: when it is given up."""


class Handovers:
    """Carries requests from their prefill to their decode instance."""

    def __init__(self, gateway: Placing, carrier: Carrier, max_hold_s: float) -> None:
        self.log: list[Move] = []
        policy, view = carrier.policy, gateway.view
        self._gateway = gateway
        self._carrier = carrier
        self._max_hold_s = max_hold_s
        self._policy: Any = policy
        self._title = title("handover", policy)
        self._transfer = policy if isinstance(policy, Transfer) else Transfer()
        self._splitting: Any = policy if isinstance(policy, Splitting) else None
        self._able = gateway.legs.decode.copy()
        """As the policy sees it: up, takes decode legs, and long enough for the request."""
        self._view = PolicyView.on(view, self._title, needs_of("handover", policy), self._able)
        copies = KvCopy(self._transfer.control_s, self._transfer.block_s)
        MoveCosts(copies, carrier.network.link, np.array(carrier.kv_bytes_per_token, dtype=np.float64)).attach(
            self._view
        )
        self._longest = np.array(carrier.longest_tokens, dtype=np.int64)
        self._roles = view.static.role
        self._takes_decodes = np.array([role != PREFILL for role in self._roles])
        self._lives = [0] * len(view)
        """How often each instance has crashed: what was copied from or to an earlier life is lost."""
        self._retry = True
        self._chosen: dict[int, int] = {}
        """Where requests in their prefill leg go afterwards, as far as that is known by then."""
        self._computed_before: dict[int, int] = {}
        """Of requests in their prefill leg: prompt tokens that had been computed before."""
        self._waiting: deque[_Leg] = deque()
        """Those for whom the policy has found no place yet."""
        self._asking = False

    # ------------------------------------------------------------------------------------------------- before it
    def splits(self, active: Active, instance: int) -> bool:
        """Whether only a request's prompt is to be computed on an instance."""
        role = self._roles[instance]
        if role != BOTH:
            return role == PREFILL
        if self._splitting is None:
            return False
        return bool(self._splitting.splits(active.job.request, instance, self._seen(active)))

    def admits(self, active: Active, instance: int) -> bool:
        """Before a request is sent: choose its decode instance too, where that is done now; False: it is refused."""
        if self._transfer.when != "arrival" or not self.splits(active, instance):
            return True
        target = self._ask(active, instance)
        if target == _REFUSED:
            return False
        if target != _HELD:
            self._choose(active, target)
        return True

    def begins(self, active: Active) -> None:
        """A request's prefill leg begins."""
        self._computed_before[active.request_id] = active.computed_tokens
        self._gateway.set_moving(active, True)

    def ended(self, active: Active) -> None:
        """A request has ended, wherever it was."""
        self._computed_before.pop(active.request_id, None)
        self._unchoose(active)

    # ------------------------------------------------------------------------------------------------- after it
    def prefilled(self, active: Active, source: int, tokens: int) -> None:
        """A request's prompt of so many tokens is computed on ``source``, which it has left; its KV cache is there."""
        now_s = self._gateway.clock.now
        move = Move(active.request_id, source, -1, now_s, tokens, carries_kv=True, stopped_s=now_s)
        self.log.append(move)
        leg = _Leg(active, move, self._lives[source])
        computed = active.computed_tokens - self._computed_before.pop(active.request_id, 0)
        target = self._chosen.get(active.request_id, _HELD)
        if target != _HELD and self._gateway.legs.decode[target]:
            if self._transfer.overlap:
                leg.hidden_bytes = self._sent_meanwhile(source, computed)
            self._carry(leg, target)
        else:
            self._unchoose(active)
            self._next(leg)

    def ask(self) -> None:
        """Something changed: ask again for those who wait, until one has to wait on."""
        if self._asking or not self._waiting:
            return
        self._asking = True
        try:
            while self._waiting:
                leg = self._waiting.popleft()
                self._next(leg, again=True)
                if self._waiting and self._waiting[0] is leg:
                    break
        finally:
            self._asking = False

    def crashed(self, instance: int, *, retry: bool) -> None:
        """An instance went down: copies from and to it are lost."""
        self._lives[instance] += 1
        self._retry = retry
        self._carrier.network.cut(instance)
        lost = [leg for leg in self._waiting if leg.move.source == instance]
        for leg in lost:
            self._waiting.remove(leg)
            self._begin_again(leg)

    def close(self) -> None:
        """The run is over: so are the handovers that were still under way."""
        for move in self.log:
            if move.outcome is Outcome.UNDER_WAY:
                move.outcome = Outcome.ENDED

    # ------------------------------------------------------------------------------------------------- choosing
    def _seen(self, active: Active) -> PolicyView:
        """The policy's view, for one request."""
        view = self._view
        view.now_s = self._gateway.clock.now
        np.logical_and(self._gateway.legs.decode, self._fits(active), out=self._able)
        return view

    def _fits(self, active: Active) -> Bools:
        """Which instances could go on with a request, its first token in the prompt, for one more token at least."""
        return self._longest > max(active.prompt_tokens, active.origin.request.prompt_tokens + 1)

    def _ask(self, active: Active, source: int) -> int:
        """Where a request goes on: an instance, or that it has to wait or is refused."""
        if not (self._takes_decodes & self._fits(active)).any():
            return _REFUSED
        view = self._seen(active)
        decision: object = self._policy.next(active.job.request, source, view)
        if decision is HOLD:
            return _HELD
        if decision is REJECT:
            return _REFUSED
        target = instance_of(decision, len(view), self._title, active.request_id)
        return target if self._able[target] else _HELD

    def _choose(self, active: Active, target: int) -> None:
        self._unchoose(active)
        self._chosen[active.request_id] = target
        self._gateway.view.incoming[target] += 1
        self._gateway.view.incoming_tokens[target] += active.origin.request.prompt_tokens

    def _unchoose(self, active: Active) -> None:
        target = self._chosen.pop(active.request_id, -1)
        if target >= 0:
            self._gateway.view.incoming[target] -= 1
            self._gateway.view.incoming_tokens[target] -= active.origin.request.prompt_tokens

    def _next(self, leg: _Leg, again: bool = False) -> None:
        """Ask where a request goes on, and let it go there, wait, or end."""
        target = self._ask(leg.active, leg.move.source)
        if target == _REFUSED:
            self._give_up(leg)
        elif target == _HELD:
            if again:
                self._waiting.appendleft(leg)
            else:
                self._waiting.append(leg)
                leg.until_s = self._gateway.clock.now + self._max_hold_s
                self._gateway.clock.after(self._max_hold_s, lambda: self._expire(leg))
        else:
            self._choose(leg.active, target)
            self._carry(leg, target)

    def _expire(self, leg: _Leg) -> None:
        if leg in self._waiting and self._gateway.clock.now >= leg.until_s:
            self._waiting.remove(leg)
            self._give_up(leg)

    def _give_up(self, leg: _Leg) -> None:
        leg.move.outcome = Outcome.REFUSED
        self._let_go(leg)
        if self._is_open(leg):
            self._gateway.end(leg.active, Status.REJECTED, self._gateway.clock.now)

    # ------------------------------------------------------------------------------------------------- carrying
    def _carry(self, leg: _Leg, target: int) -> None:
        leg.move.target = target
        self._gateway.clock.start(self._copy(leg, target, self._lives[target]))

    def _copy(self, leg: _Leg, target: int, target_life: int) -> Steps[None]:
        gateway, move = self._gateway, leg.move
        static = gateway.view.static
        overhead_s = self._transfer.overhead_s(blocks_of(move.context_tokens, static.block_size))
        if overhead_s > 0:
            yield overhead_s
        arrived = leg.life == self._lives[move.source] and target_life == self._lives[target]
        if arrived:
            size_bytes = self._left_bytes(leg)
            move.copied_bytes += size_bytes
            move.stages += 1
            load = max(self._kv_usage(move.source), self._kv_usage(target))
            arrived = yield from self._carrier.network.transfer(move.source, target, size_bytes, load)
        if not self._is_open(leg):
            # It was withdrawn while it was on no instance.
            move.outcome = Outcome.ENDED
            self._let_go(leg)
        elif leg.life != self._lives[move.source]:
            self._begin_again(leg)
        elif not arrived or target_life != self._lives[target]:
            # The source has it still; nothing of it was sent to whoever is next.
            leg.hidden_bytes = 0.0
            gateway.counters["handovers_repeated"] += 1
            self._unchoose(leg.active)
            self._next(leg)
        else:
            self._arrive(leg, target)

    def _arrive(self, leg: _Leg, target: int) -> None:
        gateway, active, move = self._gateway, leg.active, leg.move
        self._let_go(leg)
        self._unchoose(active)
        move.submitted_s = gateway.clock.now
        move.outcome = Outcome.MOVED
        active.move = move
        gateway.counters["handovers"] += 1
        gateway.set_moving(active, False)
        gateway.dispatch(active, target, move.context_tokens)

    def _begin_again(self, leg: _Leg) -> None:
        """The source died with the KV cache: the request goes back through the router, or fails with it."""
        gateway, active = self._gateway, leg.active
        leg.move.outcome = Outcome.FELL_BACK
        self._unchoose(active)
        if not self._is_open(leg):
            return
        gateway.set_moving(active, False)
        if self._retry:
            gateway.counters["retries"] += 1
            gateway.place(active)
        else:
            gateway.end(active, Status.FAILED, gateway.clock.now)

    def _let_go(self, leg: _Leg) -> None:
        """The source's blocks are not needed any more."""
        source, now_s = leg.move.source, self._gateway.clock.now
        if leg.life == self._lives[source]:
            backend = self._gateway.backends[source]
            backend.sync(now_s)
            backend.release(leg.active.request_id, now_s)

    def _left_bytes(self, leg: _Leg) -> float:
        """What of a KV cache is to be sent once its prompt is computed: the last layer's part at least."""
        carrier, source = self._carrier, leg.move.source
        size_bytes = float(leg.move.context_tokens * carrier.kv_bytes_per_token[source])
        return max(size_bytes - leg.hidden_bytes, size_bytes / carrier.layers[source])

    def _sent_meanwhile(self, source: int, computed_tokens: int) -> float:
        """Bytes that a link of its own carries while a prompt is computed, alone and at the nominal speed."""
        computing_s = computed_tokens * float(self._gateway.view.static.nominal_prefill_s_per_token[source])
        return computing_s * self._carrier.network.link.rate_bytes_per_s

    def _kv_usage(self, instance: int) -> float:
        gauges = self._gateway.backends[instance].gauges(self._gateway.clock.now)
        return gauges.kv_usage if gauges is not None else 0.0

    def _is_open(self, leg: _Leg) -> bool:
        """Whether the request has not ended meanwhile."""
        return self._gateway.active.get(leg.active.request_id) is leg.active
