"""The clock's order is SimPy's: an alarm is as an event of SimPy's that is taken back when another time is set."""

from __future__ import annotations

from itertools import cycle, islice

import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from gsim.gateway.clock import Alarm, Clock, Signal

DELAYS = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.25, float("inf")])
WAITS = st.sampled_from([0.0, 0.5, 1.0, 3.0])
#: Per thing that happens, in order: which alarms to set, each with its delay, ...
SCRIPTS = st.lists(st.lists(st.tuples(st.integers(0, 4), DELAYS), max_size=3), min_size=1, max_size=30)
#: ... and which stories to start: each waits so often, or (None) for the signal that is given at some time.
STORIES = st.lists(st.lists(st.one_of(WAITS, st.none()), max_size=3), max_size=4)
TIMEOUTS = st.lists(WAITS, max_size=6)


class Stage:
    """Five alarms, some timeouts and some stories; whatever happens sets alarms by the next line of a script."""

    def __init__(self, script, timeouts, stories):
        self.seen = []
        self.script = iter(script)
        self.stories = iter(enumerate(stories))
        self.given = cycle([1.0, None, 0.0, 0.5])
        self.clock = self.make()
        self.alarms = [self.alarm(name) for name in range(5)]
        for name, delay_s in enumerate(timeouts):
            self.after(delay_s, lambda name=name: self.happened(f"timeout {name}"))
        self.happened("start")
        self.clock.run()

    def happened(self, what):
        self.seen.append((self.clock.now, what))
        for name, delay_s in next(self.script, ()):
            self.set(name, delay_s)
        for name, waits in islice(self.stories, 2):
            self.start(self.story(name, waits))

    def story(self, name, waits):
        self.happened(f"story {name}")
        for delay_s in waits:
            if delay_s is None:
                # Given later, given already but not yet due, or over: by then the story may wait or not.
                signal, given_s = self.signal(), next(self.given)
                if given_s is None:
                    signal.succeed(name)
                else:
                    self.after(given_s, lambda signal=signal: signal.succeed(name))
                    yield self.wait(0.5)
                assert (yield signal) == name
            else:
                yield self.wait(delay_s)
            self.happened(f"story {name} goes on")


class OfOurs(Stage):
    make = Clock

    def alarm(self, name):
        return Alarm(self.clock, lambda: self.happened(name))

    def set(self, name, delay_s):
        self.alarms[name].set(delay_s)

    def after(self, delay_s, do):
        self.clock.after(delay_s, do)

    def start(self, story):
        self.clock.start(story)

    def signal(self):
        return Signal(self.clock)

    def wait(self, delay_s):
        return delay_s


class OfSimPy(Stage):
    """The reference: one SimPy timeout per time that is set, which says nothing if it is no longer the last one."""

    make = simpy.Environment

    def alarm(self, name):
        return None

    def set(self, name, delay_s):
        self.alarms[name] = None
        if delay_s < float("inf"):
            self.alarms[name] = timeout = simpy.Timeout(self.clock, delay_s)
            timeout.callbacks.append(lambda event: self.ring(name, event))

    def ring(self, name, event):
        if self.alarms[name] is event:
            self.alarms[name] = None
            self.happened(name)

    def after(self, delay_s, do):
        simpy.Timeout(self.clock, delay_s).callbacks.append(lambda _event: do())

    def start(self, story):
        self.clock.process(story)

    def signal(self):
        return simpy.Event(self.clock)

    def wait(self, delay_s):
        return self.clock.timeout(delay_s)


@given(script=SCRIPTS, timeouts=TIMEOUTS, stories=STORIES)
def test_what_is_due_happens_in_simpys_order(script, timeouts, stories):
    """Also at equal times: in the order in which it was scheduled, what is started before anything else."""
    assert OfOurs(script, timeouts, stories).seen == OfSimPy(script, timeouts, stories).seen


def test_an_alarm_rings_once_at_the_time_that_was_set_last():
    clock = Clock()
    seen = []
    alarm = Alarm(clock, lambda: seen.append(clock.now))
    alarm.set(5.0)
    alarm.set(2.0)
    alarm.set(3.0)
    clock.run()
    assert seen == [3.0]
    alarm.set(float("inf"))
    clock.run()
    assert seen == [3.0]


def test_what_fails_is_not_done_again():
    clock, seen = Clock(), []

    def fail():
        seen.append(clock.now)
        raise ZeroDivisionError

    clock.after(1.0, fail)
    clock.after(2.0, lambda: seen.append(clock.now))
    with pytest.raises(ZeroDivisionError):
        clock.run_to(3.0)
    clock.run_to(3.0)
    assert seen == [1.0, 2.0]
    assert clock.now == 3.0


def test_nothing_is_done_in_the_past():
    with pytest.raises(ValueError, match="-1"):
        Clock().after(-1.0, lambda: None)


def test_it_is_still_when_only_watchers_are_left():
    clock = Clock()
    watcher = Alarm(clock, lambda: None, watches=True)
    watcher.set(1.0)
    assert clock.due_s() == float("inf")
    other = clock.after(2.0, lambda: None)
    assert clock.due_s() == 2.0
    other.set(float("inf"))
    assert clock.due_s() == float("inf")
