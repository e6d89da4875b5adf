"""Instances that get nothing more: they serve until the last request, and the last copy of its KV, has left them."""

from __future__ import annotations

from collections import Counter

from gsim.core import ClusterView
from gsim.core.view import int_cells
from gsim.gateway.clock import Clock, Signal


class Drains:
    """Told by the gateway of every request that has left an instance, while anything drains."""

    __slots__ = ("_clock", "_copied", "_empty", "_in_flight", "instances")

    def __init__(self, clock: Clock, view: ClusterView) -> None:
        self._clock = clock
        self._in_flight = int_cells(view.in_flight)
        self.instances: set[int] = set()
        """Those that drain: nothing is sent to them, and they serve what they have."""
        self._empty: dict[int, Signal] = {}
        self._copied: Counter[int] = Counter()

    def begin(self, instance: int) -> Signal:
        """From now on it drains. The signal: nothing is left there, now or later."""
        empty = Signal(self._clock)
        self.instances.add(instance)
        self._empty[instance] = empty
        self.left(instance)
        return empty

    def end(self, instance: int) -> None:
        """It has stopped."""
        self.instances.discard(instance)

    def left(self, instance: int) -> None:
        """A request has left an instance."""
        empty = self._empty.get(instance)
        if empty is not None and not self._in_flight[instance] and not self._copied[instance]:
            del self._empty[instance]
            empty.succeed()

    def copying(self, instance: int) -> None:
        """The KV of a request is being copied away from an instance, which has to stay until that is over."""
        self._copied[instance] += 1

    def copied(self, instance: int) -> None:
        """That is over."""
        self._copied[instance] -= 1
        self.left(instance)
