"""Real time for a clock that was made for simulated time: whatever is due is done when its moment has come."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from math import inf
from typing import ParamSpec, TypeVar

from gsim.gateway.clock import Clock
from gsim.live.timer import Timer

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("gsim.live")


class Pace:
    """Drives a clock from the running event loop, so many seconds of the clock per second of real time.

    Times are absolute: a timer that fires late delays nothing that comes after it. Whoever acts on what hangs on the
    clock (sends a request, takes one out) does so by ``do``, which first brings the clock to the present.
    """

    def __init__(
        self,
        clock: Clock,
        speed: float = 1.0,
        on_error: Callable[[Exception], None] | None = None,
        began_s: float | None = None,
    ) -> None:
        """``began_s``: when, on the system's monotonic clock, the clock is at 0; by default it goes on from now."""
        self.clock = clock
        self.speed = speed
        self.late: Callable[[float], None] | None = None
        """Told, of every timer, by how many real seconds it fired late."""
        self._on_error = on_error
        self._origin_s = time.monotonic() - clock.now / speed if began_s is None else began_s
        self._armed_s = inf
        self._timer = Timer(asyncio.get_running_loop(), self._ring)
        self._closed = False
        self._inside = False

    def now_s(self) -> float:
        """What the clock should show now."""
        return (time.monotonic() - self._origin_s) * self.speed

    def moment_s(self, at_s: float) -> float:
        """When, on the system's monotonic clock, the clock shows ``at_s``."""
        return self._origin_s + at_s / self.speed

    def do(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``act`` at the present moment of the clock."""
        self._catch_up()
        try:
            return act(*args, **kwargs)
        finally:
            self._arm()

    def close(self) -> None:
        """Stop: nothing that is due later happens."""
        if not self._closed:
            self._closed = True
            self._timer.close()

    def _catch_up(self) -> None:
        if self._inside or self._closed:
            return
        self._inside = True
        try:
            self.clock.run_to(self.now_s())
        except Exception as error:  # whatever it is, what comes after it is still due
            _log.exception("an error in what was due at %.3f s", self.clock.now)
            if self._on_error is not None:
                self._on_error(error)
        finally:
            self._inside = False

    def _arm(self) -> None:
        due_s = self.clock.next_s
        if due_s == self._armed_s or self._closed or self._inside:
            return
        self._armed_s = due_s
        if due_s < inf:
            self._timer.set(self.moment_s(due_s) - time.monotonic())
        else:
            self._timer.stop()

    def _ring(self) -> None:
        if self.late is not None:
            self.late(time.monotonic() - self.moment_s(self._armed_s))
        self._armed_s = inf
        self._catch_up()
        self._arm()
