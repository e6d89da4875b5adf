"""Requests that the router holds at the gateway."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from math import inf
from typing import Any

from gsim.core import ClusterView, QueueOrder, Router
from gsim.core.answers import key_of, title
from gsim.gateway.active import Active
from gsim.gateway.clock import Clock


class HeldQueue:
    """A queue in the router's order (first come first served where it states none).

    Whenever something changes, the head is asked again; the first one that is held again ends the round (head of line).
    """

    def __init__(self, clock: Clock, router: Router, max_hold_s: float, give_up: Callable[[Active], None]) -> None:
        self._clock = clock
        self._order: Any = router if isinstance(router, QueueOrder) else None
        self._max_hold_s = max_hold_s
        self._give_up = give_up
        self._heap: list[tuple[float, int, Active]] = []
        self._until_s: dict[int, float] = {}
        self._asking = False

    @property
    def waiting(self) -> int:
        """How many requests are held."""
        return len(self._heap)

    def __bool__(self) -> bool:
        return bool(self._heap) and not self._asking

    def add(self, active: Active, view: ClusterView) -> None:
        """Hold a request; it is given up when it has been held for too long."""
        request = active.job.request
        key = request.arrival_s
        if self._order is not None:
            answer: object = self._order.queue_key(request, view)
            key = key_of(answer, title("router", self._order), request.request_id)
        heapq.heappush(self._heap, (key, request.request_id, active))
        if not active.held:
            active.held = True
            self._until_s[request.request_id] = self._clock.now + self._max_hold_s
            self._clock.after(self._max_hold_s, lambda: self._expire(active))

    def drop(self, active: Active) -> None:
        """A request is not asked for again."""
        if active.held:
            self._heap = [entry for entry in self._heap if entry[2] is not active]
            heapq.heapify(self._heap)
            self._until_s.pop(active.origin.request.request_id, None)
            active.held = False

    def holds(self, active: Active) -> bool:
        """Whether a request waits here."""
        return any(entry[2] is active for entry in self._heap)

    def ask(self, place: Callable[[Active], None]) -> None:
        """Ask again, in order, until one is held again."""
        if self._asking:
            return
        self._asking = True
        try:
            while self._heap:
                size = len(self._heap)
                _, _, active = heapq.heappop(self._heap)
                place(active)
                if len(self._heap) >= size:
                    break
                active.held = False
                self._until_s.pop(active.origin.request.request_id, None)
        finally:
            self._asking = False

    def _expire(self, active: Active) -> None:
        # A request may have been sent and held again since: then a later timer counts.
        if self._clock.now < self._until_s.get(active.origin.request.request_id, inf):
            return
        for position, (_, _, held) in enumerate(self._heap):
            if held is active:
                del self._heap[position]
                heapq.heapify(self._heap)
                del self._until_s[active.origin.request.request_id]
                self._give_up(active)
                return
