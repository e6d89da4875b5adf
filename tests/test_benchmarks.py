"""What the benchmarks count: a figure of speed is worth what its count of requests is."""

import numpy as np

from benchmarks.contexts import Clocked, agent_scenario
from gsim.cluster import simulate
from gsim.core import Streams, build


def test_steady_state_counts_only_what_ended_between_the_marks() -> None:
    trace = build("trace", "mix", rate_per_s=10.0, requests=150)
    sessions = list(trace.sessions(Streams(0), build("slo", "fixed", seconds=6.0)))
    clocked = Clocked(sessions, from_s=4.0)
    result = simulate(agent_scenario(64, "round_robin"), iter(clocked), 0)
    timed = clocked.timed(result)
    last_before_s = max(session.arrival_s for session in sessions if session.arrival_s < 4.0)
    ended_s = result.requests["finished_s"]
    inside = (ended_s > last_before_s) & (ended_s <= sessions[-1].arrival_s)
    assert timed.requests == np.count_nonzero(inside)
    assert 0 < timed.requests < len(ended_s)
    assert 0 < timed.cached_fraction < 1
    assert timed.cpu_s > 0
