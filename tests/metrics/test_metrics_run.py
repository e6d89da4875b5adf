"""A run's numbers against figures worked out by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from gsim.core import ConfigError
from gsim.metrics import Objective, Window, instance_usage, run_costs, summarise


def columns(**given):
    """Five requests: three in time, one late, one rejected."""
    nan = math.nan
    rows = {
        "session_id": [0, 1, 2, 3, 4],
        "turn": [0, 0, 0, 0, 0],
        "arrival_s": [0.0, 1.0, 2.0, 3.0, 4.0],
        "first_token_s": [0.5, 1.25, 2.5, 4.0, nan],
        "finished_s": [2.5, 3.25, 5.0, 13.0, nan],
        "ended_s": [2.5, 3.25, 5.0, 13.0, 4.0],
        "slo_s": [6.0, 6.0, 6.0, 6.0, 6.0],
        "status": [0, 0, 0, 0, 1],
        "prompt_tokens": [100, 100, 100, 100, 100],
        "generated_tokens": [11, 1, 6, 10, 0],
        "cached_tokens": [0, 50, 0, 64, 0],
        "computed_tokens": [100, 50, 100, 136, 0],
        "preemptions": [0, 0, 2, 0, 0],
        "migrations": [0, 0, 0, 1, 0],
    }
    rows.update(given)
    return {name: np.array(values) for name, values in rows.items()}


def test_counts_and_goodput_by_hand():
    row = summarise(columns())
    assert (row["requests"], row["completed"], row["rejected"], row["good"]) == (5, 4, 1, 3)
    assert row["attainment"] == pytest.approx(3 / 5)
    assert row["goodput_rps"] == pytest.approx(3 / 4.0)  # arrivals span 4 s
    assert row["offered_rps"] == pytest.approx(5 / 4.0)
    assert row["request_goodput"] == pytest.approx(3 / 13.0)  # the last request ends at 13 s
    assert row["output_throughput"] == pytest.approx(28 / 13.0)
    assert (row["preempted"], row["preemptions"], row["migrations"]) == (1, 2, 1)
    assert row["cached_fraction"] == pytest.approx(114 / 500)  # the fourth moved, and hit 64 tokens there


def test_latencies_by_hand():
    row = summarise(columns())
    assert row["mean_ttft_ms"] == pytest.approx(1000 * (0.5 + 0.25 + 0.5 + 1.0) / 4)
    assert row["mean_e2el_ms"] == pytest.approx(1000 * (2.5 + 2.25 + 3.0 + 10.0) / 4)
    # One token has no time per further token: the second request does not count.
    assert row["mean_tpot_ms"] == pytest.approx(1000 * (2.0 / 10 + 2.5 / 5 + 9.0 / 9) / 3)
    assert row["p50_e2el_ms"] == pytest.approx(1000 * (2.5 + 3.0) / 2)


def test_warm_up_is_simulated_but_not_counted():
    row = summarise(columns(), window=Window(2.0))
    assert (row["requests"], row["good"]) == (3, 1)
    assert row["goodput_rps"] == pytest.approx(1 / 2.0)  # from the cut at 2 s to the last arrival at 4 s


def test_what_arrives_after_the_end_of_the_window_is_not_counted():
    sessions = {
        "session_id": [0, 1],
        "jobs": [2, 2],
        "arrival_s": [1.0, 3.0],
        "finished_s": [5.0, 13.0],
        "slo_s": [10.0, 20.0],
        "missed": [0, 0],
    }
    rows = columns(session_id=[0, 0, 0, 1, 1])
    row = summarise(rows, {name: np.array(values) for name, values in sessions.items()}, Window(1.0, 2.5))
    assert (row["requests"], row["good"]) == (2, 2)
    assert row["goodput_rps"] == pytest.approx(2 / 1.5)
    assert (row["sessions"], row["good_sessions"]) == (1, 1)
    assert row["session_goodput_rps"] == pytest.approx(1 / 1.5)
    # A window that ends after the last arrival is as long as there were arrivals.
    assert summarise(columns(), window=Window(until_s=100.0)) == summarise(columns())


def test_nothing_counted_is_nan_not_zero():
    row = summarise(columns(), window=Window(100.0))
    assert row["requests"] == 0
    assert math.isnan(row["attainment"])
    assert math.isnan(row["mean_e2el_ms"])


def test_sessions_need_all_requests_and_their_own_makespan():
    sessions = {
        "session_id": np.array([0, 1, 2]),
        "jobs": np.array([2, 2, 1]),
        "arrival_s": np.array([0.0, 1.0, 2.0]),
        "finished_s": np.array([5.0, 20.0, 4.0]),
        "slo_s": np.array([10.0, 10.0, math.inf]),
        "missed": np.array([0, 0, 1]),
    }
    row = summarise(columns(session_id=[0, 0, 1, 1, 2]), sessions)
    assert (row["sessions"], row["good_sessions"]) == (3, 1)
    assert row["session_goodput_rps"] == pytest.approx(1 / 2.0)
    assert row["mean_makespan_ms"] == pytest.approx(1000 * (5 + 19 + 2) / 3)


def test_a_session_of_one_request_is_a_session_too():
    sessions = {
        "session_id": np.array([0]),
        "jobs": np.array([2]),
        "arrival_s": np.array([0.0]),
        "finished_s": np.array([3.25]),
        "slo_s": np.array([10.0]),
        "missed": np.array([0]),
    }
    # Beside the one of two requests, three of one: in time, late, rejected.
    row = summarise(columns(session_id=[0, 0, 1, 2, 3], turn=[0, 1, 0, 0, 0]), sessions)
    assert (row["sessions"], row["good_sessions"], row["cut_sessions"]) == (4, 2, 0)


def test_objective_adds_limits_in_milliseconds():
    assert summarise(columns(), objective=Objective.parse("ttft:400"))["good"] == 1
    assert summarise(columns(), objective=Objective.parse("tpot:300"))["good"] == 2  # 200 ms, and one single token
    assert summarise(columns(), objective=Objective.parse("e2el:2400"))["good"] == 1
    assert Objective.parse("") == Objective()


@pytest.mark.parametrize("text", ["ttlt:5", "ttft:soon", "ttft:0", "ttft"])
def test_unreadable_objectives_name_the_word(text):
    with pytest.raises(ConfigError, match="goodput"):
        Objective.parse(text)


PAID = {"paid_s": 8.0, "starts": 1, "cards": 2, "usd_per_hour": 3.6, "idle_w": 100.0, "busy_w": 400.0}


def test_usage_shares_and_utilisation():
    instances = [
        SimpleNamespace(
            name="a", gpu="A40", requests=1, generated_tokens=10, busy_s=2.0, preemptions=0, power_s=2.0, **PAID
        ),
        SimpleNamespace(
            name="b", gpu="H800", requests=3, generated_tokens=30, busy_s=5.0, preemptions=1, power_s=4.0, **PAID
        ),
    ]
    first, second = instance_usage(instances, 10.0)
    assert (first["share"], second["share"]) == (0.25, 0.75)
    assert (first["utilisation"], second["utilisation"]) == (0.2, 0.5)
    #  Eight seconds at 3.6 dollars an hour; two of them at 400 W (five at 80 % of what is above idle), the others at
    #  100 W.
    assert first["cost_usd"] == pytest.approx(0.008)
    assert (first["energy_j"], second["energy_j"]) == (2 * 400 + 6 * 100, 5 * 340 + 3 * 100)
    costs = run_costs(instances, 10.0)
    assert costs["cost_usd"] == pytest.approx(0.016)
    assert costs["usd_per_million_tokens"] == pytest.approx(0.016 / 40 * 1e6)
    assert costs["card_hours"] == pytest.approx(2 * 2 * 8.0 / 3600)
    assert (costs["instances_up"], costs["starts"]) == (pytest.approx(1.6), 2)
    assert costs["joule_per_token"] == (1400 + 2000) / 40


def test_what_is_not_known_of_an_instance_that_was_paid_for_leaves_costs_empty():
    unknown = {**PAID, "usd_per_hour": 0.0, "idle_w": math.nan, "busy_w": math.nan}
    known = SimpleNamespace(generated_tokens=10, busy_s=2.0, power_s=2.0, **PAID)
    strange = SimpleNamespace(generated_tokens=0, busy_s=0.0, power_s=0.0, **unknown)
    costs = run_costs([known, strange], 10.0)
    assert math.isnan(costs["cost_usd"])
    assert math.isnan(costs["joule_per_token"])
    # One that was off for the whole run is no part of it.
    strange.paid_s = 0.0
    assert run_costs([known, strange], 10.0)["cost_usd"] == pytest.approx(0.008)
