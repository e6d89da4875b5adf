"""Simulated time: alarms in one heap, rung in the order of their times; at equal times the one that was set first.

Instances set their alarms several times per request, so an alarm has one place in the heap, which moves. What is told
most simply as a story with waits in it (a migration, a fault) is a generator; ``Clock.start`` lets it go on.
The order is that of SimPy's events, against which the tests hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from math import inf
from typing import Any, Final, TypeVar

T = TypeVar("T")

#: What is begun at once counts as scheduled before all else: so much less than a usual number is that of its alarm.
_AT_ONCE: Final = 1 << 60


class Alarm:
    """Calls ``ring`` once, at the time that was set last."""

    __slots__ = ("_clock", "at_s", "number", "place", "ring", "watches")

    def __init__(self, clock: Clock, ring: Callable[[], None], watches: bool = False) -> None:
        self.ring = ring
        self.watches = watches
        """It only looks at what others do, again and again: where nothing else is due, nothing more can happen."""
        self.at_s = inf
        """When it rings (``inf``: never)."""
        self.number = 0
        """Of what is due at the same time, the smaller number comes first."""
        self.place = -1
        """In the heap; -1: it is not set."""
        self._clock = clock

    def set(self, delay_s: float) -> None:
        """Ring in ``delay_s`` seconds, and not at the time that was set before; ``inf``: not at all."""
        self.renumber()
        self.move(self._clock.now + delay_s)

    def move(self, at_s: float) -> None:
        """Ring at ``at_s``, as if it had been set to that when it was set; ``inf``: not at all."""
        self.at_s = at_s
        if at_s < inf:
            self._clock.alarms.moved(self)
        else:
            self._clock.alarms.remove(self)

    def renumber(self) -> None:
        """From its next ``move`` on it counts as set now."""
        clock = self._clock
        self.number = clock.numbers = clock.numbers + 1


class Alarms:
    """A binary heap of alarms that know their places, by time, then by number."""

    __slots__ = ("heap",)

    def __init__(self) -> None:
        self.heap: list[Alarm] = []

    def moved(self, alarm: Alarm) -> None:
        """Put an alarm where it belongs now."""
        if alarm.place < 0:
            alarm.place = len(self.heap)
            self.heap.append(alarm)
        self._towards_root(alarm)
        self._towards_leaves(alarm)

    def remove(self, alarm: Alarm) -> None:
        """Take an alarm out, if it is in."""
        place = alarm.place
        if place < 0:
            return
        alarm.place = -1
        last = self.heap.pop()
        if last is not alarm:
            last.place = place
            self.heap[place] = last
            self.moved(last)

    def _towards_root(self, alarm: Alarm) -> None:
        heap = self.heap
        place, at_s, number = alarm.place, alarm.at_s, alarm.number
        while place > 0:
            above = (place - 1) // 2
            other = heap[above]
            if other.at_s < at_s or (other.at_s == at_s and other.number < number):
                break
            heap[place] = other
            other.place = place
            place = above
        heap[place] = alarm
        alarm.place = place

    def _towards_leaves(self, alarm: Alarm) -> None:
        heap = self.heap
        place, at_s, number = alarm.place, alarm.at_s, alarm.number
        end = len(heap)
        while True:
            below = 2 * place + 1
            if below >= end:
                break
            other = heap[below]
            if below + 1 < end:
                right = heap[below + 1]
                if right.at_s < other.at_s or (right.at_s == other.at_s and right.number < other.number):
                    below, other = below + 1, right
            if at_s < other.at_s or (at_s == other.at_s and number < other.number):
                break
            heap[place] = other
            other.place = place
            place = below
        heap[place] = alarm
        alarm.place = place


class Clock:
    """The time, and everything that is due: each at its time, at equal times in the order in which it was scheduled."""

    __slots__ = ("_stopped", "alarms", "now", "numbers")

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds since the start."""
        self.alarms = Alarms()
        self.numbers = 0
        """How often something was scheduled."""
        self._stopped = False

    def after(self, delay_s: float, do: Callable[[], None]) -> Alarm:
        """Call ``do`` once, in ``delay_s`` seconds, unless the alarm that is returned is set to another time."""
        if not delay_s >= 0.0:
            raise ValueError(f"nothing can be done in {delay_s} s")
        alarm = Alarm(self, do)
        alarm.set(delay_s)
        return alarm

    def at_once(self, do: Callable[[], None]) -> None:
        """Call ``do`` before anything else that is due by now."""
        alarm = Alarm(self, do)
        alarm.renumber()
        alarm.number -= _AT_ONCE
        alarm.move(self.now)

    def start(self, steps: Steps[Any]) -> None:
        """Let something go on from now on (see ``at_once``), each time until it waits for something."""
        self.at_once(partial(self.resume, steps, None))

    def resume(self, steps: Steps[Any], answer: Any) -> None:
        """Let something that waits go on with the answer that it waited for."""
        try:
            waited = steps.send(answer)
        except StopIteration:
            return
        if isinstance(waited, Signal):
            waited.wait(steps)
        else:
            self.after(waited, partial(self.resume, steps, None))

    @property
    def next_s(self) -> float:
        """When the next alarm rings; ``inf``: none is set."""
        heap = self.alarms.heap
        return heap[0].at_s if heap else inf

    def due_s(self) -> float:
        """When the first alarm rings that does more than watch; ``inf``: nothing more can happen."""
        first_s = inf
        for alarm in self.alarms.heap:
            if not alarm.watches and alarm.at_s < first_s:
                first_s = alarm.at_s
        return first_s

    def run(self) -> None:
        """Let alarms ring until none is set, or until ``stop`` is called."""
        self._stopped = False
        while self.alarms.heap and not self._stopped:
            self.step()

    def stop(self) -> None:
        """End ``run`` after what happens just now."""
        self._stopped = True

    def run_to(self, now_s: float) -> None:
        """Do everything that is due by ``now_s``, which is now the time: how real time drives this clock.

        ``now_s`` before the clock's own time is no time at all: nothing happens.
        """
        while self.next_s <= now_s:
            self.step()
        if now_s > self.now:
            self.now = now_s

    def step(self) -> None:
        """Let the next alarm ring."""
        alarm = self.alarms.heap[0]
        self.now = alarm.at_s
        number = alarm.number
        # It keeps its place while it rings: most alarms are set again by what they do.
        try:
            alarm.ring()
        finally:
            if alarm.number == number:
                alarm.move(inf)


class Signal:
    """Something that happens once, when somebody says so; one generator may wait for it."""

    __slots__ = ("_answer", "_clock", "_happened", "_waiting")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: Steps[Any] | None = None
        self._happened = False
        self._answer: Any = None

    def succeed(self, answer: Any = None) -> None:
        """It happens, after what is due by now: whoever waits for it then goes on."""
        self._answer = answer
        self._clock.after(0.0, self._happen)

    def wait(self, steps: Steps[Any]) -> None:
        """Let ``steps`` go on when it happens; at once, if it has."""
        if self._happened:
            self._clock.resume(steps, self._answer)
        else:
            self._waiting = steps

    def _happen(self) -> None:
        self._happened = True
        if self._waiting is not None:
            self._clock.resume(self._waiting, self._answer)


#: What goes on beside other things: it yields what it waits for, seconds or a ``Signal``, and gets the signal's answer.
Steps = Generator[float | Signal, Any, T]
