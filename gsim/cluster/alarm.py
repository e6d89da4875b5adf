"""An event that is scheduled over and over: SimPy's own are for one time each, and cost more than what they do here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import simpy


class Alarm(simpy.Event):
    """Calls ``ring`` at every time that was set. What no longer counts rings too: cheaper than taking it back."""

    def __init__(self, env: simpy.Environment, ring: Callable[[], None]) -> None:
        super().__init__(env)
        # As a simpy.Timeout: it has happened by the time it is looked at.
        self._ok = True
        self._value = None
        self._ring = ring
        self._rings: list[Callable[[Any], None]] = [self._rung]
        self.callbacks = self._rings

    def set(self, delay_s: float) -> float:
        """Ring in ``delay_s`` seconds, besides what is set already; the time at which that will be."""
        self.env.schedule(self, delay=delay_s)
        return self.env.now + delay_s

    def _rung(self, _event: Any) -> None:
        # SimPy takes an event's callbacks away before it calls them.
        self.callbacks = self._rings
        self._ring()
