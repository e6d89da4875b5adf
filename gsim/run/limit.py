"""Limits that stop a run which goes on for too long: simulated seconds, and seconds by the clock on the wall."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from gsim.core import ConfigError, SimulationError
from gsim.core.construct import FloatOrInf

#: Three years: timers hold no more than they need to.
_LONGEST_S = 1e8


@dataclass(frozen=True)
class Limit:
    """When a run that is still going on is stopped, with an error. It changes no result, and is no part of a key."""

    simulated_s: FloatOrInf = 31_536_000.0
    """Simulated seconds (a year: a rate or a gap that leads there has a wrong unit); inf: no limit."""
    wall_s: float | None = None
    """Seconds that computing one run may take; null: any time."""

    def __post_init__(self) -> None:
        if not self.simulated_s > 0:
            raise ConfigError(f"limit.simulated_s must be greater than 0, not {self.simulated_s}")
        if self.wall_s is not None and not 0 < self.wall_s < math.inf:
            raise ConfigError(f"limit.wall_s must be greater than 0, or null; not {self.wall_s}")

    @contextmanager
    def on_the_wall(self) -> Iterator[None]:
        """Raises ``SimulationError`` in what goes on inside for longer than ``wall_s``, even in a policy that loops.

        By a signal, so in a process's main thread alone (that is where workers compute); elsewhere nothing is stopped.
        """
        here = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
        if self.wall_s is None or not here:
            yield
            return
        before = signal.signal(signal.SIGALRM, self._over)
        signal.setitimer(signal.ITIMER_REAL, min(self.wall_s, _LONGEST_S))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)

    def _over(self, _number: int, _frame: FrameType | None) -> None:
        raise SimulationError(f"the run takes longer than limit.wall_s={self.wall_s:g} s by the clock on the wall")
