"""The clock's alarms: as if every one were an event of SimPy's that is taken back when another time is set."""

from __future__ import annotations

import simpy
from hypothesis import given
from hypothesis import strategies as st

from gsim.gateway.clock import Alarm, Clock

DELAYS = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.25, float("inf")])
#: Per ring or timeout, in order: which alarms to set, each with its delay.
SCRIPTS = st.lists(st.lists(st.tuples(st.integers(0, 4), DELAYS), max_size=3), min_size=1, max_size=30)
TIMEOUTS = st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), max_size=6)


class Stage:
    """Five alarms and some SimPy timeouts; whatever happens sets alarms by the next line of a script."""

    def __init__(self, script, timeouts):
        self.seen = []
        self.script = iter(script)
        self.env = self.environment()
        self.alarms = [self.alarm(name) for name in range(5)]
        for name, delay_s in enumerate(timeouts):
            timeout = simpy.Timeout(self.env, delay_s)
            timeout.callbacks.append(lambda _event, name=name: self.happened(f"timeout {name}"))
        self.happened("start")
        self.env.run()

    def happened(self, what):
        self.seen.append((self.env.now, what))
        for name, delay_s in next(self.script, ()):
            self.set(name, delay_s)


class WithAlarms(Stage):
    environment = Clock

    def alarm(self, name):
        return Alarm(self.env, lambda: self.happened(name))

    def set(self, name, delay_s):
        self.alarms[name].set(delay_s)


class WithEvents(Stage):
    """The reference: one SimPy timeout per time that is set, which says nothing if it is no longer the last one."""

    environment = simpy.Environment

    def alarm(self, name):
        return None

    def set(self, name, delay_s):
        self.alarms[name] = None
        if delay_s < float("inf"):
            self.alarms[name] = timeout = simpy.Timeout(self.env, delay_s)
            timeout.callbacks.append(lambda event: self.ring(name, event))

    def ring(self, name, event):
        if self.alarms[name] is event:
            self.alarms[name] = None
            self.happened(name)


@given(script=SCRIPTS, timeouts=TIMEOUTS)
def test_alarms_ring_where_simpys_own_events_would(script, timeouts):
    """Also at equal times: in the order in which they were set, alarms and SimPy's events alike."""
    assert WithAlarms(script, timeouts).seen == WithEvents(script, timeouts).seen


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
