"""The guard: a run that cannot go on, or goes on for too long, ends with who waits for what (invariant 15)."""

from __future__ import annotations

from math import inf

from gsim.cluster.arrivals import Arrivals
from gsim.core import SimulationError
from gsim.gateway.active import Active
from gsim.gateway.clock import Alarm, Clock
from gsim.gateway.gateway import Gateway

#: How often it looks, in simulated seconds; later more rarely, so that it costs nothing however long a run is.
_EVERY_S = 600.0
_NAMED = 5


class Guard:
    """Looks now and then whether anything is still due but the loops that never end (scrapes, reviews ...)."""

    def __init__(self, clock: Clock, gateway: Gateway, arrivals: Arrivals, limit_s: float) -> None:
        self._clock = clock
        self._gateway = gateway
        self._arrivals = arrivals
        self._limit_s = limit_s
        self._alarm = Alarm(clock, self._look, watches=True)

    def start(self) -> None:
        """Look from now on."""
        delay_s = min(max(_EVERY_S, 0.01 * self._clock.now), self._limit_s - self._clock.now)
        self._alarm.set(delay_s)

    def _look(self) -> None:
        clock = self._clock
        due_s = clock.due_s()
        if due_s == inf:
            raise SimulationError(f"at {clock.now:g} s nothing more can happen, and the run is not over: {self._who()}")
        if due_s > self._limit_s:
            raise SimulationError(
                f"the run is still going on at {clock.now:g} s, and what happens next happens at {due_s:g} s "
                f"(limit.simulated_s={self._limit_s:g}): {self._who()}"
            )
        if clock.now >= self._limit_s:
            raise SimulationError(
                f"the run is still going on at {clock.now:g} s (limit.simulated_s={self._limit_s:g}): {self._who()}"
            )
        self.start()

    def _who(self) -> str:
        """Who waits for what."""
        active = list(self._gateway.active.values())
        said = [self._where(one) for one in active[:_NAMED]]
        if len(active) > _NAMED:
            said.append(f"and {len(active) - _NAMED} requests more are under way")
        if self._arrivals.waiting:
            said.append(f"{self._arrivals.waiting} turns wait for others of their session, or for their tools")
        due_s = self._arrivals.next_s
        if not self._arrivals.finished:
            said.append(f"the next session arrives at {due_s:g} s" if due_s < inf else "more sessions are to come")
        return "; ".join(said) or "no request is under way"

    def _where(self, active: Active) -> str:
        request = active.origin.request
        name = f"request {request.request_id} of session {request.session_id}"
        if active.held:
            return f"{name} is held by the router"
        return f"{name} is on instance {active.instance}" if active.instance >= 0 else f"{name} is on no instance"
