"""The test of drift, on queues whose truth is known: M/M/c below, at and beyond its capacity."""

import math

import numpy as np
import pytest

from benchmarks.drift_test import called, cells_of, queue, verdict
from gsim.metrics import Stationarity, choose_warmup, judge, latency_drift, window_drifts
from gsim.metrics.drift import relative_drift, slope


def test_far_below_its_capacity_a_queue_is_steady():
    steady, drifting = called(cells_of(20, 0.7, 5, 25, 100.0))
    assert steady >= 0.92
    assert drifting <= 0.05


def test_beyond_its_capacity_a_queue_is_never_steady():
    assert called(cells_of(20, 1.1, 3, 15, 100.0)) == (0.0, 1.0)
    steady, drifting = called(cells_of(20, 1.05, 5, 15, 100.0))
    assert steady == 0.0
    assert drifting >= 0.85


def test_growth_is_measured():
    # 20 servers, 30 % more arrivals than they can serve: 6 more requests per second, in every second.
    told = verdict([queue(seed, 20, 1.3, 10.0, 110.0) for seed in range(5)])
    assert told.stationary is False
    assert told.grows
    assert told.growth.low < 6.0 < told.growth.high
    assert told.unit == "requests"
    assert "requests in the system grow by" in told.because or "attainment falls" in told.because


def test_noise_does_not_hide_a_growth_of_one_session_per_second():
    rng = np.random.default_rng(3)
    for trial in range(20):
        runs = {name: [] for name in ("sessions_drift", "growth_sessions_per_s")}
        for _ in range(3):
            at = np.arange(200.0)
            # A level of 300 with waves of 100 s and a standard deviation of 60, and growth of 1 session/s.
            waves = np.convolve(rng.normal(0, 1, 400), np.ones(100), "same")[100:300] * 6.0
            number = 300.0 + at + waves
            runs["sessions_drift"].append(relative_drift(at, number, 200.0))
            runs["growth_sessions_per_s"].append(slope(at, number))
        assert judge(runs).stationary is not True, trial


def test_a_warm_up_that_is_not_over_is_no_level():
    # 200 servers from empty: without a warm-up the window sees them fill.
    told = verdict([queue(seed, 200, 0.7, 0.0, 6.0) for seed in range(5)])
    assert told.stationary is False


@pytest.mark.parametrize(("first", "second", "steady"), [(0.99, 0.95, True), (0.99, 0.93, False), (0.8, 0.9, False)])
def test_halves_of_a_stationary_cell_agree(first, second, steady):
    runs = {"attainment_first_half": [first] * 3, "attainment_second_half": [second] * 3, "requests_drift": [0.0] * 3}
    told = judge(runs)
    assert told.stationary is steady
    assert steady or "between the halves" in told.because


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"requests_drift": [0.0, 0.1]}, "2 seeds cannot tell"),
        ({"requests_drift": [0.0, 0.01, -0.01], "requests": [40, 50, 60]}, "fewer than 100 counted requests"),
        ({"requests_drift": [0.0] * 3, "window_s": [13.0] * 3, "stay_s": [40.0] * 3}, "shorter than 3 mean times"),
        ({}, "nothing was recorded"),
    ],
)
def test_what_cannot_be_said_is_not_said(extra, words):
    told = judge(extra)
    assert told.stationary is None
    assert words in told.because


def test_growth_that_cannot_be_excluded_is_no_level():
    told = judge({"requests_drift": [-0.5, 0.6, 0.3, -0.2]})
    assert told.stationary is None
    assert "not excluded" in told.because
    assert not told.grows


def test_drift_by_hand():
    # A line from 10 to 20 over 8 bins of 1 s changes by 10 of a mean of 15.
    edges = np.arange(11.0)
    number = np.array([np.nan, np.nan, *(10.0 + 1.25 * (np.arange(8) + 0.5))])
    series = {
        "time_s": edges,
        "requests": number,
        "sessions": number * 2,
        "counted": [9] * 10,
        "good": [9] * 6 + [6] * 4,
    }
    found = window_drifts(series, 2.0, 10.0)
    assert found["growth_requests_per_s"] == pytest.approx(1.25)
    assert found["growth_sessions_per_s"] == pytest.approx(2.5)
    assert found["requests_drift"] == pytest.approx(10 / 15)
    assert found["sessions_in_system"] == pytest.approx(30.0)
    assert found["attainment_first_half"] == 1.0
    assert found["attainment_second_half"] == pytest.approx(6 / 9)


def test_latency_drift_is_of_the_deadline_and_counts_what_was_cut():
    arrival = np.arange(10.0)
    stay = np.full(10, 2.0)
    slo = np.where(arrival % 2 == 0, 4.0, 8.0)
    rows = {"arrival_s": arrival, "finished_s": arrival + stay * slo, "slo_s": slo, "status": np.zeros(10)}
    assert latency_drift(rows, 0.0, 10.0) == pytest.approx(0.0, abs=1e-12)
    growing = rows | {"ended_s": arrival + slo * (1.0 + arrival), "finished_s": np.full(10, np.nan)}
    assert latency_drift(growing, 0.0, 10.0) == pytest.approx(10 * 1.0 / 5.5)
    assert math.isnan(latency_drift(rows | {"status": np.full(10, 2)}, 0.0, 10.0))


def test_warm_up_by_hand_and_on_a_transient():
    at = np.arange(200.0)
    rng = np.random.default_rng(5)
    settling = 100.0 * (1 - np.exp(-at / 15.0)) + rng.normal(0, 3.0, (5, 200))
    cut = choose_warmup(at, settling)
    assert 30.0 <= cut <= 90.0
    assert choose_warmup(at, np.full(200, 4.0)) == 0.0
    assert math.isnan(choose_warmup(at, at**2))
    assert math.isnan(choose_warmup([], []))
    with pytest.raises(ValueError, match="a value per time"):
        choose_warmup([0.0], [1.0, 2.0])


def test_a_run_that_stops_at_the_window_does_not_look_as_if_latency_fell():
    arrival = np.arange(0.0, 100.0, 0.1)
    ended = np.minimum(arrival + 10.0, 100.0)
    rows = {"arrival_s": arrival, "slo_s": np.full(1000, 20.0), "ended_s": ended}
    rows |= {"finished_s": np.where(ended < 100.0, ended, np.nan), "status": np.where(ended < 100.0, 0, 3)}
    assert latency_drift(rows, 0.0, 100.0) == pytest.approx(0.0, abs=1e-6)


def test_what_arrives_may_wander_where_nobody_waits_longer():
    wandering = {"sessions_drift": [0.7, 0.1, 0.6], "growth_sessions_per_s": [0.1, 0.2, 0.15]}
    assert judge(wandering | {"latency_drift": [0.03, -0.05, 0.01]}).stationary is True
    assert judge(wandering | {"latency_drift": [0.3, 0.1, 0.2]}).stationary is False
    filling = {"sessions_drift": [0.7, 0.6, 0.65], "growth_sessions_per_s": [1.0, 1.1, 1.0]}
    assert judge(filling | {"latency_drift": [0.03, -0.05, 0.01]}).stationary is False


def filling(growth: float, latency: float, spread: float = 0.01) -> Stationarity:
    """Ten requests arrive per second and stay for 4 s; counted from the beginning on, for 20 s."""
    scatter = np.array([-0.01, 0.0, 0.01])
    return judge(
        {
            "requests_drift": scatter * spread / 0.01 + 1.0,
            "growth_requests_per_s": scatter * spread / 0.01 + growth,
            "latency_drift": scatter + latency,
            "attainment_first_half": [0.99] * 3,
            "attainment_second_half": [0.98] * 3,
            "requests": [1000.0] * 3,
            "arrived_rps": [10.0] * 3,
            "warmup_s": [0.0] * 3,
            "window_s": [20.0] * 3,
            "stay_s": [4.0] * 3,
        }
    )


def test_a_pool_that_fills_has_no_level_and_is_not_beyond_capacity():
    # A ramp that ends after a fifth of the window has a slope of 3 x 0.2^2 - 2 x 0.2^3 = 0.104 of what arrives.
    told = filling(1.04, 0.0)
    assert told.stationary is None
    assert not told.grows
    assert "a warm-up of 0 s is shorter than the mean stay of 4 s" in told.because
    assert filling(4.0, 0.2).grows  # too much for that
    assert filling(1.04, 0.8).grows  # a queue, since everybody waits longer
    wide = filling(1.04, -0.05, spread=0.9)  # not shown, yet the number in the system has doubled
    assert wide.stationary is None
    assert wide.because == "requests in the system grow by 100% over the window, and latency does not"


def test_a_cut_at_the_end_is_no_drift():
    halves = {"attainment_first_half": [0.98] * 3, "attainment_second_half": [0.90] * 3, "requests": [800.0] * 3}
    calm = {"requests_drift": [0.0, 0.01, -0.01], "latency_drift": [0.0, 0.01, -0.01]}
    assert judge(halves | calm).stationary is False
    assert judge(halves | calm | {"cut": [40.0] * 3}).stationary is True
