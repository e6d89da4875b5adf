"""The rectifier's loop: every interval it reviews the active requests, and its migrations are carried out."""

from __future__ import annotations

from typing import Any, Protocol

from gsim.core import Migration, PolicyView, Predictor, Rectifier
from gsim.core.answers import interval_of, migrations_of, require_allowed, title
from gsim.gateway.gateway import Gateway
from gsim.gateway.policies import needs_of


class Mover(Protocol):
    """Carries out one migration in simulated time (see ``moves``)."""

    def start(self, migration: Migration) -> None: ...


class Monitor:
    """Reviews and moves."""

    def __init__(self, gateway: Gateway, rectifier: Rectifier, predictor: Predictor | None, mover: Mover) -> None:
        self.reviews = 0
        self.next_review_s = gateway.clock.now + interval_of(rectifier, title("rectifier", rectifier))
        self._gateway = gateway
        self._rectifier: Any = rectifier
        self._title = title("rectifier", rectifier)
        needs = needs_of("rectifier", rectifier)
        self._view = PolicyView.on(gateway.view, self._title, needs, gateway.legs.decode)
        self._predictor = predictor
        """Re-predicts every active request; None where the rectifier does not ask for predictions."""
        self._mover = mover
        self._loop = gateway.loops.add(self._ring, self._skipped)

    def start(self) -> None:
        """Review again and again from now on, an interval apart."""
        interval_s = interval_of(self._rectifier, self._title)
        self.next_review_s = self._gateway.clock.now + interval_s
        self._loop.again(interval_s)

    def _ring(self) -> None:
        self.review(self._gateway.clock.now)
        self.start()

    def _skipped(self, _last_s: float, next_s: float) -> None:
        self.next_review_s = next_s

    def review(self, now_s: float) -> None:
        """One review of everything in flight."""
        gateway = self._gateway
        if gateway.table is None or not len(gateway.table):
            return
        self.reviews += 1
        # A request that finished at this very instant must not be reviewed as active.
        for backend in gateway.backends:
            backend.sync(now_s)
        clocks = gateway.table.follow(gateway.backends, now_s)
        active = gateway.table.snapshot(clocks, self._predictor)
        view = self._view
        gateway.view.now_s = view.now_s = now_s
        answer: object = self._rectifier.review(active, view)
        migrations = migrations_of(answer, len(view), self._title)
        require_allowed(migrations, active, self._title)
        for migration in migrations:
            self._mover.start(migration)
