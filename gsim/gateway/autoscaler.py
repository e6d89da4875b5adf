"""The scaler's loop: every interval it reviews slots and view, and what it decides is carried out."""

from __future__ import annotations

from math import inf
from typing import Any

from gsim.core import PolicyView, PoolChecker, Resting, Scaler
from gsim.core.answers import interval_of, scalings_of, title
from gsim.gateway.fleet import Fleet
from gsim.gateway.gateway import Gateway
from gsim.gateway.policies import needs_of


class Autoscaler:
    """Reviews and scales. While nothing is in flight only scalers that rest are left alone: others may expect load.

    Raises what a scaler has against the pool.
    """

    def __init__(self, gateway: Gateway, scaler: Scaler, fleet: Fleet) -> None:
        if isinstance(scaler, PoolChecker):
            scaler.check_pool(gateway.view.static)
        self.reviews = 0
        self.scalings = 0
        """Starts and drains that were decided."""
        self._gateway = gateway
        self._scaler: Any = scaler
        self._title = title("scaler", scaler)
        self._fleet = fleet
        self._view = PolicyView.on(gateway.view, self._title, needs_of("scaler", scaler))
        self._loop = gateway.loops.add(self._ring, lambda _last_s, _next_s: None)

    def start(self) -> None:
        """Review again and again from now on, an interval apart."""
        self._again()

    def _ring(self) -> None:
        self._review()
        self._again()

    def _review(self) -> None:
        gateway = self._gateway
        self.reviews += 1
        slots = self._fleet.slots()
        view = self._view
        gateway.view.now_s = view.now_s = gateway.clock.now
        answer: object = self._scaler.review(slots, view)
        scalings = scalings_of(answer, slots, gateway.view, self._title)
        self.scalings += len(scalings)
        if scalings:
            self._fleet.carry_out(scalings)

    def _again(self) -> None:
        interval_s = interval_of(self._scaler, self._title)
        if interval_s == inf:
            return
        rests = isinstance(self._scaler, Resting) and bool(self._scaler.rests(self._fleet.slots()))
        self._loop.again(interval_s, sleeps=rests)
