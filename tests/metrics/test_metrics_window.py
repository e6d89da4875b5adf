"""What is counted, and what went on over time, against figures worked out by hand."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsim.core import ConfigError
from gsim.metrics import RULES, Objective, Window, over_time, session_began_s, stay_s, summarise, with_beginnings
from gsim.metrics.window import BINS

# Two sessions of two requests, one that was under way when the run began, one single request, one that never came.
ROWS = {
    "session_id": [0, 0, 1, 2, 2, -1, 0],
    "turn": [0, 1, 3, 0, 1, 0, 2],
    "arrival_s": [1.0, 5.0, 0.5, 4.0, 9.0, 2.0, nan],
    "ended_s": [3.0, 8.0, 2.5, 6.0, 12.0, 2.25, 12.0],
    "finished_s": [3.0, 8.0, 2.5, 6.0, nan, 2.25, nan],
    "first_token_s": [2.0, 6.0, 1.0, 5.0, nan, 2.125, nan],
    "status": [0, 0, 0, 0, 3, 0, 3],
    "slo_s": [4.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0],
    "prompt_tokens": [10] * 7,
    "generated_tokens": [5, 5, 5, 5, 0, 5, 0],
    "cached_tokens": [0] * 7,
    "computed_tokens": [0] * 7,
    "preemptions": [0] * 7,
    "migrations": [0] * 7,
}


def rows(**given):
    return {name: np.array(values) for name, values in (ROWS | given).items()}


def test_a_session_begins_with_its_first_request():
    assert session_began_s(rows()).tolist()[:2] == [1.0, 1.0]
    assert np.array_equal(session_began_s(rows()), [1.0, 1.0, nan, 4.0, 4.0, 2.0, 1.0], equal_nan=True)
    assert len(session_began_s({name: values[:0] for name, values in rows().items()})) == 0


@pytest.mark.parametrize(
    ("rule", "counted"),
    [
        ("by_arrival", [1, 0, 0, 1, 0, 1, 0]),
        ("by_session", [1, 1, 0, 1, 1, 1, 1]),
        # By completion what was cut has not ended, and the last request of the first session ends after the window.
        ("by_completion", [1, 0, 1, 0, 0, 1, 0]),
    ],
)
def test_three_rules(rule, counted):
    assert Window(1.0, 5.0, rule).requests(rows()).tolist() == [bool(one) for one in counted]


def test_rates_are_per_second_of_the_window():
    by_session = summarise(rows(), window=Window(1.0, 5.0, "by_session"))
    assert (by_session["requests"], by_session["good"], by_session["cut"]) == (6, 3, 2)
    assert by_session["offered_rps"] == pytest.approx(6 / 4)
    assert by_session["arrived_rps"] == pytest.approx(3 / 4)
    assert by_session["goodput_rps"] == pytest.approx(3 / 4)
    by_completion = summarise(rows(), window=Window(1.0, 5.0, "by_completion"))
    assert by_completion["goodput_rps"] == pytest.approx(3 / 4)
    assert np.isnan(by_completion["offered_rps"])
    assert by_completion["arrived_rps"] == pytest.approx(3 / 4)


def test_what_is_open_over_time():
    found = over_time(rows(), Window(0.0, 16.0, "by_session"), np.array([1, 1, 1, 1, 0, 1, 0], dtype=bool))
    edges, requests, sessions = (np.array(found[name]) for name in ("time_s", "requests", "sessions"))
    assert len(edges) == BINS + 1
    assert (edges[0], edges[-1]) == (0.0, 16.0)

    def at(series, time_s):
        return series[np.searchsorted(edges, time_s, side="right") - 1]

    # From 0.5 s the one that was under way, from 1 s the first one, from 2 s the single one; the cut one stays open.
    assert [at(requests, t) for t in (0.0, 0.7, 1.5, 2.1, 3.5, 15.5)] == pytest.approx([0, 1, 2, 3, 0, 1])
    # A session is open also while its agent waits: the first from 1 to 8 s, the third from 4 s on.
    assert [at(sessions, t) for t in (0.7, 3.5, 4.5, 8.5, 15.5)] == pytest.approx([1, 1, 2, 1, 1])
    # What is open on average, times the time, is the time that all have spent.
    spent_s = 2.0 + 3.0 + 2.0 + 2.0 + 7.0 + 0.25
    assert requests.sum() * 16.0 / BINS == pytest.approx(spent_s)
    assert (sum(found["counted"]), sum(found["good"])) == (6, 4)


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.01, 30)), min_size=1, max_size=20), st.floats(10, 60))
def test_the_integral_of_what_is_open_is_the_time_spent(spans, until_s):
    arrival_s = np.array([a for a, _ in spans])
    ended_s = arrival_s + np.array([d for _, d in spans])
    table = {
        "session_id": np.arange(len(spans)),
        "turn": np.zeros(len(spans), dtype=int),
        "status": np.zeros(len(spans), dtype=int),
        "arrival_s": arrival_s,
        "ended_s": ended_s,
    }
    found = over_time(table, Window(0.0, until_s, "by_session"), np.ones(len(spans), dtype=bool))
    spent_s = np.clip(ended_s, None, until_s) - np.clip(arrival_s, None, until_s)
    for name in ("requests", "sessions"):
        assert np.sum(found[name]) * until_s / BINS == pytest.approx(spent_s.sum(), rel=1e-9, abs=1e-6)
        assert min(found[name]) > -1e-6


def test_how_long_sessions_last_is_asked_of_their_requests():
    # Nine short sessions of one request, one long one of ninety-one: nearly all requests are the long one's.
    assert stay_s(np.array([2.0] * 9 + [100.0]), np.array([1] * 9 + [91])) == 100.0
    assert stay_s(np.array([2.0] * 9 + [100.0]), np.array([10] * 9 + [1])) == 2.0
    # What has not ended lasts longer than all others.
    assert np.isnan(stay_s(np.array([nan, 1.0]), np.array([1, 1])))
    assert np.isnan(stay_s(np.zeros(0), np.zeros(0)))


def test_a_window_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="ends at 2"):
        Window(3.0, 2.0)
    with pytest.raises(ConfigError, match="by_session"):
        Window(rule="by_chance")
    assert Window().until_s == inf


def single(arrivals, **given):
    """Requests of their own that take one second each, and five tokens."""
    n = len(arrivals)
    columns = {
        "session_id": [-1] * n,
        "turn": [0] * n,
        "arrival_s": arrivals,
        "ended_s": [a + 1.0 for a in arrivals],
        "finished_s": [a + 1.0 for a in arrivals],
        "first_token_s": [a + 0.5 for a in arrivals],
        "status": [0] * n,
        "slo_s": [4.0] * n,
        "prompt_tokens": [10] * n,
        "output_tokens": [5] * n,
        "generated_tokens": [5] * n,
        "cached_tokens": [0] * n,
        "computed_tokens": [10] * n,
        "preemptions": [0] * n,
        "migrations": [0] * n,
    }
    return {name: np.array(values) for name, values in (columns | given).items()}


@pytest.mark.parametrize("offset_s", [0.0, 1000.0, 1e6])
def test_a_load_that_begins_late_has_the_rate_that_it_has(offset_s):
    rng = np.random.default_rng(3)
    arrivals = np.cumsum(rng.exponential(0.5, 60))
    told = summarise(single((arrivals + offset_s).tolist()))
    here = summarise(single(arrivals.tolist()))
    assert told["goodput_rps"] == pytest.approx(here["goodput_rps"], rel=0.05)
    assert told["offered_rps"] == pytest.approx(2.0, rel=0.4)


def test_a_first_gap_like_the_others_is_part_of_the_load():
    assert summarise(single([2.0, 4.0, 6.0, 8.0]))["offered_rps"] == 4 / 8.0


def test_a_warm_up_that_is_given_is_where_the_window_begins():
    told = summarise(single([500.0, 501.0, 502.0]), window=Window(100.0, inf))
    assert told["offered_rps"] == pytest.approx(3 / 402.0)


@pytest.mark.parametrize("arrivals", [[0.0] * 8, [3.0] * 8, [0.0]])
def test_a_batch_at_one_instant_counts_per_second_of_its_service(arrivals):
    told = summarise(single(arrivals, finished_s=[arrivals[0] + 2.0 * (i + 1) for i in range(len(arrivals))]))
    assert told["offered_rps"] == pytest.approx(0.5)
    assert told["request_throughput"] == pytest.approx(0.5)


def test_an_answer_that_was_cut_short_is_not_good_unless_asked():
    short = single([0.0, 1.0, 2.0, 3.0], generated_tokens=[5, 4, 5, 1], status=[0, 0, 1, 0])
    told = summarise(short)
    assert (told["truncated"], told["good"], told["completed"]) == (2, 1, 3)
    asked = summarise(short, objective=Objective.parse("truncated:good"))
    assert (asked["truncated"], asked["good"]) == (2, 3)
    assert summarise(short, objective=Objective.parse("tpot:10 truncated:good"))["good"] == 1
    live = {name: values for name, values in short.items() if name != "output_tokens"}
    assert (summarise(live)["truncated"], summarise(live)["good"]) == (0, 3)


def test_a_session_with_an_answer_that_was_cut_short_is_not_good():
    columns = single([0.0, 1.0, 2.0], session_id=[7, 7, 8], turn=[0, 1, 0], generated_tokens=[5, 4, 5])
    sessions = {
        "session_id": np.array([7]),
        "arrival_s": np.array([0.0]),
        "finished_s": np.array([2.0]),
        "slo_s": np.array([inf]),
        "missed": np.array([0]),
        "jobs": np.array([2]),
    }
    assert summarise(columns, sessions)["good_sessions"] == 1
    assert summarise(columns, sessions, objective=Objective.parse("truncated:good"))["good_sessions"] == 2


def test_beginnings_are_worked_out_once_and_stay_with_their_rows():
    known = with_beginnings(rows())
    assert np.array_equal(known["session_began_s"], session_began_s(rows()), equal_nan=True)
    # A part of the rows, without its sessions' first turns, still knows when they began.
    part = {name: values[1:2] for name, values in known.items()}
    assert session_began_s(part).tolist() == [1.0]
    for rule in RULES:
        window = Window(1.0, 3.0, rule)
        assert np.array_equal(window.requests(known), window.requests(rows()))
