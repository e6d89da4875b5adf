"""Load that does not end: which sessions are counted, what is cut, and a closed population of agents."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from math import inf

import numpy as np
import pytest
from cluster_cases import columns_equal, paper_pool, simulate_on
from hypothesis import given, settings
from hypothesis import strategies as st

from gsim.cluster import Horizon, Status
from gsim.core import ConfigError, Streams, build
from gsim.metrics import Window, session_began_s, summarise

SLO = build("slo", "fixed", seconds=6.0)
CLASSES = ("sql_agent", "math_agent")


def mix(rate: float, seed: int):
    trace = build("trace", "mix", rate_per_s=rate, requests=None, duration_s=1e6, classes=CLASSES)
    return trace.sessions(Streams(seed), SLO)


def agents(n: int, seed: int = 0, **fields):
    return build("trace", "agents", agents=n, classes=CLASSES, **fields).population(Streams(seed), SLO)


def counted_ids(result, window: Window) -> list[int]:
    return result.requests["request_id"][window.requests(result.requests)].tolist()


@settings(max_examples=8)
@given(
    seed=st.integers(0, 50),
    rate=st.floats(5.0, 60.0),
    start_s=st.floats(0.0, 2.0),
    length_s=st.floats(0.5, 2.0),
    drain_s=st.floats(0.0, 4.0),
    routers=st.permutations(["fastest", "always_first", "random", "least_load"]),
)
def test_no_router_changes_what_is_counted(seed, rate, start_s, length_s, drain_s, routers):
    until_s = start_s + length_s
    horizon = Horizon(until_s, until_s + drain_s, start_s)
    window = Window(start_s, until_s, "by_session")
    runs = [
        simulate_on(paper_pool(), mix(rate, seed), router, seed=seed, horizon=horizon, max_hold_s=2.0)
        for router in routers[:2]
    ]
    expected = [
        job.request.request_id
        for session in sessions_until(mix(rate, seed), until_s)
        if session.arrival_s >= start_s
        for job in session.jobs
    ]
    for result in runs:
        rows = result.requests
        # Every request that arrived ends once; every request of a counted session has its row, whatever became of it.
        assert len(set(rows["request_id"].tolist())) == len(rows["request_id"])
        assert counted_ids(result, window) == expected
        cut = rows["status"] == Status.CUT
        assert np.array_equal(np.isfinite(rows["finished_s"]), rows["status"] == Status.FINISHED)
        assert np.all(rows["ended_s"][cut] == result.duration_s)
        # Nothing that is counted is cut unless the limit was reached; and the run never stops before the window ends.
        assert until_s <= result.duration_s <= horizon.end_s
        summary = summarise(rows, result.sessions, window)
        assert summary["requests"] == len(expected)
        assert not summary["cut"] or result.duration_s == horizon.end_s
        if summary["requests"]:
            assert summary["goodput_rps"] == pytest.approx(summary["attainment"] * summary["offered_rps"])


def sessions_until(sessions, until_s: float):
    for session in sessions:
        if session.arrival_s >= until_s:
            return
        yield session


def test_load_goes_on_until_the_last_counted_session_has_ended():
    horizon = Horizon(10.0, 1000.0, 2.0)
    result = simulate_on(paper_pool(), mix(20.0, 1), "fastest", horizon=horizon)
    rows = result.requests
    window = Window(2.0, 10.0, "by_session")
    counted = window.requests(rows)
    last_s = rows["ended_s"][counted].max()
    assert result.duration_s == last_s > 10.0
    assert not np.any(rows["status"][counted] == Status.CUT)
    # Up to then others have come, at the same rate as before: no counted session has an emptying pool to itself.
    later = np.nanmax(np.where(rows["turn"] == 0, rows["arrival_s"], -inf))
    assert last_s - later < 3.0
    assert np.any(rows["status"] == Status.CUT)


def test_a_counted_session_that_is_cut_is_a_miss_with_all_its_requests():
    result = simulate_on(paper_pool(), mix(150.0, 3), "always_first", horizon=Horizon(4.0, 4.5, 1.0))
    window = Window(1.0, 4.0, "by_session")
    rows, counted = result.requests, window.requests(result.requests)
    cut = counted & (rows["status"] == Status.CUT)
    never = cut & np.isnan(rows["arrival_s"])
    assert cut.sum() > never.sum() > 0
    assert np.all(rows["generated_tokens"][never] == 0)
    summary = summarise(rows, result.sessions, window)
    assert summary["cut"] == cut.sum()
    assert summary["cut_sessions"] == len(set(rows["session_id"][cut].tolist())) > 0
    assert summary["sessions"] == len(set(rows["session_id"][counted].tolist()))
    assert summary["attainment"] <= 1 - cut.sum() / counted.sum()
    assert summary["session_attainment"] <= 1 - summary["cut_sessions"] / summary["sessions"]


# ---------------------------------------------------------------------------------------------- closed populations
@pytest.mark.parametrize("router", ["fastest", "random", "edf"])
def test_a_population_is_never_more_than_its_agents_and_thinks_as_long_as_it_says(router):
    n, think_s, until_s = 12, 1.5, 40.0
    result = simulate_on(
        paper_pool(), agents(n, think_s=think_s, ramp_s=3.0), router, horizon=Horizon(until_s, until_s)
    )
    rows = result.requests
    assert result.duration_s == until_s
    assert len(set(rows["request_id"].tolist())) == len(rows["request_id"])
    spans = defaultdict(list)
    for session_id in np.unique(rows["session_id"]).tolist():
        mine = rows["session_id"] == session_id
        ended = inf if np.any(rows["status"][mine] == Status.CUT) else rows["ended_s"][mine].max()
        spans[session_id % n].append((rows["arrival_s"][mine].min(), ended))
    assert len(spans) == n
    for mine in spans.values():
        mine.sort()
        assert mine[0][0] <= 3.0
        # One session at a time. (A session whose turns all ended just before the horizon, in a gap, looks ended.)
        for (_, ended), (began, _) in pairwise(mine):
            assert began - ended == pytest.approx(think_s, abs=1e-9)


def test_agents_ask_the_same_under_every_router():
    def asked(router: str):
        rows = simulate_on(paper_pool(), agents(10, seed=4), router, horizon=Horizon(30.0, 30.0)).requests
        names = ("session_id", "turn", "prompt_tokens", "output_tokens", "slo_s", "task")
        values = zip(*(rows[name].tolist() for name in names), strict=True)
        return dict(zip(rows["request_id"].tolist(), values, strict=True))

    fast, slow = asked("fastest"), asked("always_first")
    both = fast.keys() & slow.keys()
    assert len(fast) > len(slow)
    assert len(both) > 0.9 * len(slow)
    assert all(fast[i][:5] == slow[i][:5] for i in both)


def test_a_population_is_the_same_bytes_again():
    runs = [simulate_on(paper_pool(), agents(9, seed=2), "random", horizon=Horizon(20.0, 20.0)) for _ in range(2)]
    assert columns_equal(runs[0].requests, runs[1].requests)


def test_a_refused_agent_goes_on_with_its_next_session(run):
    class Refuses:
        needs = frozenset()

        def route(self, request, view):
            from gsim.core import REJECT

            return REJECT

    result = run(paper_pool(), agents(3, think_s=2.0, ramp_s=0.0), Refuses(), horizon=Horizon(11.0, 11.0))
    # Six sessions each: at 0, 2, ... 10 s.
    assert len(set(result.requests["session_id"].tolist())) == 18


def test_a_longer_window_finds_the_same_level():
    """Metamorphic: in a steady state twice the window moves neither rate nor attainment by more than the noise."""

    def level(until_s: float):
        window = Window(20.0, until_s, "by_completion")
        found = [
            summarise(
                simulate_on(paper_pool(), agents(12, seed), "least_load", horizon=Horizon(until_s, until_s)).requests,
                window=window,
            )
            for seed in range(3)
        ]
        return [np.mean([summary[name] for summary in found]) for name in ("goodput_rps", "attainment")]

    once, twice = level(50.0), level(80.0)
    assert once[0] == pytest.approx(twice[0], rel=0.1)
    assert once[1] == pytest.approx(twice[1], abs=0.03)


def test_sessions_that_were_under_way_count_by_completion_but_have_not_begun():
    result = simulate_on(paper_pool(), agents(30, seed=1), "fastest", horizon=Horizon(30.0, 30.0))
    rows = result.requests
    began_s = session_began_s(rows)
    under_way = np.isnan(began_s)
    first_turn = {s: rows["turn"][rows["session_id"] == s].min() for s in range(30)}
    assert any(turn > 0 for turn in first_turn.values())
    for session_id, turn in first_turn.items():
        assert np.isnan(began_s[rows["session_id"] == session_id]).all() == (turn > 0)
    ended = rows["status"] == Status.FINISHED
    counted = Window(0.0, 30.0, "by_completion").requests(rows)
    assert np.array_equal(counted, ended)
    assert np.any(counted & under_way)


def test_a_population_needs_a_horizon():
    with pytest.raises(ConfigError, match="until_s"):
        simulate_on(paper_pool(), agents(2), "random")
