"""Policies of an engine's queue that are registered for one test, and an engine under them."""

from __future__ import annotations

import dataclasses
import math

import pytest
from engine_cases import AffineTime, job, limits

from gsim.core import registry
from gsim.engine import make_engine

#: Every iteration takes a second, whatever is in it.
SECOND = AffineTime(1.0, 0.0, 0.0, 0.0)


@pytest.fixture
def own(monkeypatch):
    """Register a class as the policy ``mine``."""

    def add(cls, **fields):
        cls = dataclasses.dataclass(cls)
        known = {**registry.entries("scheduler"), "mine": registry.Entry("scheduler", "mine", cls, cls)}
        monkeypatch.setitem(registry._ENTRIES, "scheduler", known)
        return "mine"

    return add


def engine(policy="mine", latency=SECOND, kind="decode_clock", **fields):
    """An engine of ample limits under a policy."""
    return make_engine(kind, latency, limits(policy=policy, **fields))


def served(one, *requests):
    """Submit requests at 0 (output tokens, and fields of ``job``), run to the end; the events."""
    for number, (output, fields) in enumerate(requests):
        one.submit(job(number, 0.0, output=output, **{"max_output_tokens": 1000, **fields}), 0.0)
    events = []
    while one.next_event_s() < math.inf:
        events += one.advance(one.next_event_s())
    return events


def finish_times(events):
    """When each request finished, by id."""
    return {event.request_id: event.time_s for event in events if event.kind == 1}
