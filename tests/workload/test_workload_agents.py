"""A closed population before anything runs: who begins where, and what each will ask for."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from gsim.core import ConfigError, Streams, build
from gsim.workload.generate.mix import Mix, requests_per_session
from gsim.workload.generate.task_class import CLASSES

SLO = build("slo", "fixed", seconds=6.0)


def population(n: int, seed: int = 0, **fields):
    return build("trace", "agents", agents=n, **fields).population(Streams(seed), SLO)


def test_each_agent_begins_once_in_the_ramp():
    made = population(60, ramp_s=5.0)
    assert [session.session_id for session in made.first] == list(range(60))
    starts = [session.arrival_s for session in made.first]
    assert starts == sorted(starts)
    assert 0 <= starts[0] < starts[-1] <= 5.0


def test_what_is_left_of_a_session_holds_what_came_before():
    for session in population(80).first:
        first = session.jobs[0]
        assert first.after == ()
        assert first.request.arrival_s == session.arrival_s
        assert [job.request.turn for job in session.jobs] == list(
            range(first.request.turn, first.request.turn + len(session.jobs))
        )
        # A later turn's prompt: its predecessor's prompt, answer and something new; so the first turn's is long.
        assert len(first.request.content) >= 1 + 2 * first.request.turn
        ids = {job.request.request_id for job in session.jobs}
        for job in session.jobs[1:]:
            assert {dependency.request_id for dependency in job.after} <= ids


def test_ids_are_all_different_and_later_sessions_are_dealt_in_turn():
    made = population(7)
    later = list(islice(made.later, 70))
    ids = [job.request.request_id for session in (*made.first, *later) for job in session.jobs]
    assert ids == list(range(len(ids)))
    assert [session.session_id for session in later] == list(range(7, 77))
    assert all(np.isnan(session.arrival_s) for session in later)
    assert {job.request.turn for session in later for job in session.jobs if not job.after} == {0}


def test_agents_begin_where_agents_are_found():
    """Sessions in proportion to their turns, so as many agents of each class as it has requests; anywhere inside."""
    n, long = 1500, "code_agent_light"
    first = population(n, seed=3).first
    tasks = Counter(session.jobs[0].request.task for session in first)
    # The default mix has as many requests of each class: a quarter each, within four standard errors (and the 1 % to
    # which the mean number of requests is known).
    assert all(abs(tasks[name] / n - 0.25) < 4 * np.sqrt(0.25 * 0.75 / n) + 0.005 for name in Mix.classes)
    # Length-biased: E[T^2]/E[T] turns, half of which have gone on average.
    sessions = list(islice(population(1, classes=(long,)).later, 3000))
    turns = np.array([len(session.jobs) for session in sessions])
    biased = (turns**2).mean() / turns.mean()
    mine = [session for session in first if session.jobs[0].request.task == long]
    whole = np.array([session.jobs[0].request.turn + len(session.jobs) for session in mine])
    gone = np.array([session.jobs[0].request.turn for session in mine])
    assert abs(whole.mean() - biased) < 4 * whole.std() / np.sqrt(len(mine))
    assert abs((gone / whole).mean() - (1 - 1 / whole).mean() / 2) < 4 * (gone / whole).std() / np.sqrt(len(mine))
    assert biased > 1.1 * requests_per_session(long, Mix.max_context_tokens, Mix().sub_agents)


def test_sub_agents_that_have_ended_are_waited_for_by_nobody():
    fields = {"classes": ("tool_agent",), "sub_agents": build_sub_agents()}
    for session in population(40, **fields).first:
        ids = {job.request.request_id for job in session.jobs}
        assert all(dependency.request_id in ids for job in session.jobs for dependency in job.after)
        assert any(not job.after for job in session.jobs)


def build_sub_agents():
    from gsim.workload.generate.agent import SubAgents

    return SubAgents(probability=0.5)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"agents": 0}, "trace.agents"),
        ({"think_s": 0.0}, "trace.think_s"),
        ({"ramp_s": -1.0}, "trace.ramp_s"),
        ({"classes": ("nobody",)}, "nobody"),
        ({"weights": (1.0,)}, "trace.weights"),
    ],
)
def test_what_cannot_be_is_named(fields, named):
    with pytest.raises(ConfigError, match=named):
        build("trace", "agents", **fields)


def test_agents_have_no_arrivals_to_list():
    with pytest.raises(ConfigError, match="mix"):
        next(iter(build("trace", "agents").sessions(Streams(0), SLO)))


def test_every_class_can_be_a_population():
    for name in CLASSES:
        if name == "code_agent_production":
            continue
        made = population(3, classes=(name,), max_context_tokens=49_152)
        assert len(made.first) == 3
        assert next(made.later).session_id == 3
