"""Simulated time: SimPy's environment, and beside its queue alarms that are set over and over.

Instances set their alarms several times per request. SimPy would keep an entry for each time that was ever set, most of
which no longer count when they come up, and compare them as tuples. Here an alarm has one place, which moves.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from math import inf
from typing import Any, TypeVar

import simpy
from simpy.events import NORMAL, URGENT

T = TypeVar("T")

#: What goes on beside other things: it yields what it waits for (``Clock.timeout``, ``Clock.event``).
Steps = Generator[simpy.Event, Any, T]
#: Something that happens once, at a time or when somebody says so (``succeed``).
Event = simpy.Event


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
        self._clock = clock

    def set(self, delay_s: float) -> None:
        """Ring in ``delay_s`` seconds, and not at the time that was set before; ``inf``: not at all."""
        clock = self._clock
        self.at_s = clock._now + delay_s
        self.number = next(clock._eid)
        clock.alarms.moved(self)

    def move(self, at_s: float) -> None:
        """Ring at ``at_s``, as if it had been set to that when it was set."""
        self.at_s = at_s
        self._clock.alarms.moved(self)

    def renumber(self) -> None:
        """From its next ``move`` on it counts as set now."""
        self.number = next(self._clock._eid)


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


class Clock(simpy.Environment):
    """SimPy's environment with alarms: what is due at the same time happens in the order in which it was scheduled.

    It reads SimPy's own clock, queue and count of events (``_now``, ``_queue``, ``_eid``), as ``simpy.rt`` does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alarms = Alarms()

    def start(self, steps: Steps[Any]) -> None:
        """Let something go on from now on."""
        self.process(steps)

    def at_once(self, do: Callable[[], None]) -> None:
        """Call ``do`` before anything else that is due by now, as a process begins."""
        event = simpy.Event(self)
        event._ok, event._value = True, None
        event.callbacks.append(lambda _event: do())
        self.schedule(event, URGENT)

    def after(self, delay_s: float, do: Callable[[Event], None]) -> Event:
        """Call ``do`` once, in ``delay_s`` seconds, with the event that is returned."""
        timeout = simpy.Timeout(self, delay_s)
        timeout.callbacks.append(do)
        return timeout

    def is_still(self, loops: int) -> bool:
        """Whether nothing is due but alarms that only watch, and so many events of loops that go on for ever."""
        return len(self._queue) <= loops and all(one.watches or one.at_s == inf for one in self.alarms.heap)

    @property
    def due(self) -> int:
        """How many events of SimPy's are due (alarms aside)."""
        return len(self._queue)

    @property
    def next_s(self) -> float:
        """When the next thing is due; ``inf``: nothing is."""
        heap = self.alarms.heap
        queue: list[Any] = self._queue
        at_s: float = queue[0][0] if queue else inf
        return heap[0].at_s if heap and heap[0].at_s < at_s else at_s

    def run_to(self, now_s: float) -> None:
        """Do everything that is due by ``now_s``, which is now the time: how real time drives this clock.

        ``now_s`` before the clock's own time is no time at all: nothing happens.
        """
        while self.next_s <= now_s:
            self.step()
        if now_s > self._now:
            self._now = now_s

    def step(self) -> None:
        """Let the next alarm ring, or process the next event of SimPy's."""
        heap = self.alarms.heap
        queue: list[Any] = self._queue
        if heap and _first(heap[0], queue):
            alarm = heap[0]
            self._now = alarm.at_s
            # It keeps its place while it rings, and others may be set meanwhile.
            number = alarm.number
            alarm.ring()
            if alarm.number == number:
                alarm.at_s = inf
                self.alarms.moved(alarm)
        else:
            super().step()


def _first(alarm: Alarm, queue: list[Any]) -> bool:
    """Whether an alarm comes before SimPy's queue."""
    if alarm.at_s == inf:
        return False
    if not queue:
        return True
    at_s: float = queue[0][0]
    if alarm.at_s != at_s:
        return alarm.at_s < at_s
    _, priority, number, _ = queue[0]
    return bool((NORMAL, alarm.number) < (priority, number))
