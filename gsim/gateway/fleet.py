"""The slots of a pool over time: instances that boot, serve, drain and stop, and what of that is paid for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import numpy as np

from gsim.core import Drain, SimulationError, Slots, SlotState, Start
from gsim.core.view import Floats, Ints
from gsim.gateway.clock import Steps
from gsim.gateway.gateway import Gateway
from gsim.gateway.records import Columns

#: Seconds that an instance takes from its start until it serves (of a slot).
BootTime = Callable[[int], float]
_OFF, _BOOTING, _UP, _DRAINING = (int(state) for state in SlotState)


class Fleet:
    """Keeps the state of every slot; the gateway's view says which of them can be sent to."""

    def __init__(self, gateway: Gateway, up: Sequence[bool], boot_s: BootTime, *, move: bool) -> None:
        """``up``: which slots serve from the beginning. ``move``: what drains sends on what it has."""
        self._gateway = gateway
        self._boot_s = boot_s
        self._move = move
        self._state: Ints = np.where(np.array(up, dtype=np.bool_), _UP, _OFF).astype(np.int64)
        self._since_s = np.full(len(up), gateway.clock.now)
        self._down: set[int] = set()
        """Slots that a fault keeps from serving."""
        self._starts = [0] * len(up)
        """How often each slot was started: who waits for an earlier start waits for nothing."""
        self._paid_s = [0.0] * len(up)
        """Up to the last time that a slot went off."""
        self._paid_since_s = [gateway.clock.now if one else inf for one in up]
        self.changes: list[tuple[float, int, int]] = [(gateway.clock.now, i, int(s)) for i, s in enumerate(self._state)]
        """When which slot came into which state, in time order."""
        gateway.view.available[:] = self._state == _UP

    # --------------------------------------------------------------------------------------------------- what there is
    def slots(self) -> Slots:
        """As a scaler sees them now."""
        boot_s: Floats = np.array([self._boot_s(slot) for slot in range(len(self._state))])
        made = Slots(self._state.copy(), self._since_s.copy(), boot_s, self._gateway.held)
        for signal in (made.state, made.since_s, made.boot_s):
            signal.flags.writeable = False
        return made

    def is_up(self, slot: int) -> bool:
        """Whether the slot's instance has its model and runs."""
        return int(self._state[slot]) in (_UP, _DRAINING) and slot not in self._down

    def paid_s(self, slot: int, now_s: float) -> float:
        """For how long the slot's instances were paid for by ``now_s``: from start to stop, booting and draining."""
        since_s = self._paid_since_s[slot]
        return self._paid_s[slot] + (now_s - since_s if since_s < now_s else 0.0)

    def starts(self, slot: int) -> int:
        """How often an instance was started in the slot."""
        return self._starts[slot]

    def columns(self) -> Columns:
        """The changes, a row each, in time order."""
        rows = list(zip(*self.changes, strict=True)) or [(), (), ()]
        return {
            "time_s": np.array(rows[0], dtype=np.float64),
            "slot": np.array(rows[1], dtype=np.int64),
            "state": np.array(rows[2], dtype=np.int64),
        }

    # ---------------------------------------------------------------------------------------------------- what happens
    def carry_out(self, scalings: Sequence[Start | Drain]) -> None:
        """Begin what a scaler asked for (as it was checked), starts first."""
        for one in sorted(scalings, key=lambda one: isinstance(one, Drain)):
            if isinstance(one, Start):
                self._start(one.slot)
            else:
                self._drain(one.slot)

    def crash(self, slot: int) -> bool:
        """A fault hits a slot; whether there is an instance in it that crashes now."""
        hit = self.is_up(slot)
        self._down.add(slot)
        return hit

    def restored(self, slot: int) -> bool:
        """The fault is over; whether the slot's instance serves again now."""
        self._down.discard(slot)
        return int(self._state[slot]) == _UP

    def _start(self, slot: int) -> None:
        boot_s = self._boot_s(slot)
        if not 0.0 <= boot_s < inf:
            raise SimulationError(
                f"slot {slot} would boot for {boot_s} s; allowed: a finite number of seconds, 0 or more"
            )
        self._starts[slot] += 1
        self._paid_since_s[slot] = self._gateway.clock.now
        self._set(slot, _BOOTING)
        self._gateway.clock.start(self._boot(slot, boot_s, self._starts[slot]))

    def _boot(self, slot: int, boot_s: float, start: int) -> Steps[None]:
        yield boot_s
        if self._starts[slot] != start or self._state[slot] != _BOOTING:
            return
        self._set(slot, _UP)
        # It says that it is ready, so its gauges are known.
        self._gateway.view.scraped_s[slot] = self._gateway.clock.now
        if slot not in self._down:
            self._gateway.restart(slot)

    def _drain(self, slot: int) -> None:
        if self._state[slot] == _BOOTING:
            self._off(slot)
            return
        self._set(slot, _DRAINING)
        self._gateway.clock.start(self._empty(slot))

    def _empty(self, slot: int) -> Steps[None]:
        gateway = self._gateway
        gateway.view.available[slot] = False
        empty = gateway.drains.begin(slot)
        if self._move:
            self._send_on(slot)
        yield empty
        gateway.drains.end(slot)
        self._shut_down(slot)
        self._off(slot)

    def _send_on(self, slot: int) -> None:
        """What is there goes on elsewhere, by token ids, as the router says; what is being moved goes as planned."""
        gateway = self._gateway
        for active in [one for one in gateway.active.values() if one.instance == slot and not one.moving]:
            if gateway.detach(active) is not None:
                gateway.counters["drained"] += 1
                gateway.place(active)

    def _shut_down(self, slot: int) -> None:
        """The instance, which has nothing left, is gone with its cache, and nobody reads its gauges any more."""
        gateway, view = self._gateway, self._gateway.view
        gateway.backends[slot].forget(gateway.clock.now)
        if gateway.prefix_index is not None:
            gateway.prefix_index.clear(slot)
        view.running[slot] = view.waiting[slot] = 0
        view.kv_usage[slot] = 0.0

    def _off(self, slot: int) -> None:
        now_s = self._gateway.clock.now
        self._paid_s[slot] = self.paid_s(slot, now_s)
        self._paid_since_s[slot] = inf
        self._set(slot, _OFF)

    def _set(self, slot: int, state: int) -> None:
        now_s = self._gateway.clock.now
        self._state[slot] = state
        self._since_s[slot] = now_s
        self.changes.append((now_s, slot, state))
