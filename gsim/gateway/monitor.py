"""The rectifier's loop: every interval it reviews the active requests, and its migrations are carried out."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

import simpy

from gsim.core import Migration, Predictor, Rectifier, SimulationError
from gsim.gateway.gateway import Gateway


class Mover(Protocol):
    """Carries out one migration in simulated time (see ``moves``)."""

    def start(self, migration: Migration) -> None: ...


class Monitor:
    """Reviews and moves."""

    def __init__(self, gateway: Gateway, rectifier: Rectifier, predictor: Predictor | None, mover: Mover) -> None:
        self.reviews = 0
        self.next_review_s = gateway.env.now + rectifier.interval_s
        self._gateway = gateway
        self._rectifier = rectifier
        self._predictor = predictor
        """Re-predicts every active request; None where the rectifier does not ask for predictions."""
        self._mover = mover

    def run(self) -> Generator[simpy.Event, Any, None]:
        """The SimPy process."""
        env = self._gateway.env
        while True:
            self.next_review_s = env.now + self._rectifier.interval_s
            yield env.timeout(self._rectifier.interval_s)
            self.review(env.now)

    def review(self, now_s: float) -> None:
        """One review of everything in flight."""
        gateway = self._gateway
        if gateway.table is None or not len(gateway.table):
            return
        self.reviews += 1
        # A request that finished at this very instant must not be reviewed as active.
        for instance in gateway.instances:
            instance.sync(now_s)
        clocks = gateway.table.follow(gateway.instances, now_s)
        active = gateway.table.snapshot(clocks, self._predictor)
        view = gateway.view
        view.now_s = now_s
        for migration in self._rectifier.review(active, view):
            target = migration.target
            if not 0 <= target < len(view):
                name = type(self._rectifier).__name__
                raise SimulationError(
                    f"{name} moves request {migration.request_id} to instance {target} of {len(view)}"
                )
            self._mover.start(migration)
