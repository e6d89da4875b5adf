"""What is done again and again, an interval apart, and not while nothing is in flight: scrapes, reviews, refreshes.

Between two requests hours may pass in which nothing changes. A loop that comes up while nothing is in flight sleeps;
the next arrival wakes it, and it goes on at the very times at which it would have come up without sleeping.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from math import inf, nan

import numpy as np

from gsim.gateway.clock import Alarm, Clock

#: Fewer times than these are counted one by one, more by NumPy, so many at once.
_FEW = 32
_AT_ONCE = 1 << 16
#: More than these are not counted at all: nobody waits for a run that does so much, to compare its last bits.
_MOST = 10_000_000


class Loop:
    """One loop: ``ring`` does its work and calls ``again``."""

    __slots__ = ("_loops", "alarm", "asleep", "due_s", "interval_s", "skipped", "slept_s")

    def __init__(self, loops: Loops, ring: Callable[[], None], skipped: Callable[[float, float], None]) -> None:
        self.alarm = Alarm(loops.clock, ring, watches=True)
        self.skipped = skipped
        """Told on waking, where times were left out, the last of these and the next time that it will ring."""
        self.interval_s = inf
        self.due_s = inf
        """While it sleeps: when it would ring next."""
        self.slept_s = nan
        """The last time that was left out."""
        self.asleep = False
        self._loops = loops

    def again(self, interval_s: float, *, sleeps: bool = True) -> None:
        """Ring in ``interval_s`` seconds, unless nothing is in flight (and it ``sleeps`` then)."""
        self.interval_s = interval_s
        self.alarm.set(interval_s)
        if sleeps:
            self._loops.rest(self)


class Loops:
    """The loops of one gateway."""

    def __init__(self, clock: Clock, in_flight: Sized) -> None:
        self.clock = clock
        self.sleepless = False
        """Somebody records what goes on all the time."""
        self.asleep = False
        """Whether any loop is."""
        self._in_flight = in_flight
        self._loops: list[Loop] = []

    def add(self, ring: Callable[[], None], skipped: Callable[[float, float], None]) -> Loop:
        """A loop that begins with its first ``again``."""
        loop = Loop(self, ring, skipped)
        self._loops.append(loop)
        return loop

    def rest(self, loop: Loop) -> None:
        """The loop sleeps if nothing is in flight."""
        if self.sleepless or len(self._in_flight):
            return
        self.asleep = loop.asleep = True
        loop.due_s = loop.alarm.at_s
        loop.alarm.move(inf)

    def wake(self) -> None:
        """Something begins: whatever sleeps goes on. Call it before anything of that is done."""
        now_s = self.clock.now
        self.asleep = False
        sleepers = [loop for loop in self._loops if loop.asleep]
        for loop in sleepers:
            loop.asleep = False
            loop.slept_s, loop.due_s = times_before(now_s, loop.due_s, loop.interval_s)
        # At equal times they ring in the order in which they rang last, as if they had been set then.
        for loop in sorted(sleepers, key=lambda loop: (loop.slept_s, -loop.interval_s, loop.alarm.number)):
            if loop.slept_s > -inf:
                loop.alarm.renumber()
                loop.skipped(loop.slept_s, loop.due_s)
            loop.alarm.move(loop.due_s)


def times_before(now_s: float, due_s: float, interval_s: float) -> tuple[float, float]:
    """The last time before ``now_s`` of a loop that is due at ``due_s`` (-inf: none is), and the first from then on.

    An interval is added after another, so that both are what they would be, to the last bit, had all been rung (of very
    many: but for rounding).
    """
    last_s = -inf
    if now_s - due_s > _MOST * interval_s:
        due_s += (int((now_s - due_s) / interval_s) - _AT_ONCE) * interval_s
    while due_s < now_s:
        if due_s + interval_s == due_s:
            return due_s, now_s
        count = min(int((now_s - due_s) / interval_s) + 1, _AT_ONCE)
        if count < _FEW:
            last_s, due_s = due_s, due_s + interval_s
            continue
        steps = np.full(count + 1, interval_s)
        steps[0] = due_s
        times = np.add.accumulate(steps)
        first = min(int(times.searchsorted(now_s)), count)
        last_s, due_s = float(times[first - 1]), float(times[first])
    return last_s, due_s
