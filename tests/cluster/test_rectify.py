"""Rectifiers at work in whole runs: they combine with every router, keep the invariants, and pay."""

from __future__ import annotations

import numpy as np
import pytest
from cluster_cases import columns_equal, paper_pool, poisson
from move_cases import assert_sound, inside
from test_moves import sized

from gsim.cluster import Scenario
from gsim.core import Outcome, build, entries

ROUTERS = [name for name, entry in entries("router").items() if not getattr(entry.cls, "offline", False)]
N = 240


def rectified(router, rectifier, mechanism="token_ids", seed=1, rate=75.0, n=N, **scenario):
    result, run = inside(
        paper_pool(),
        sized(poisson(seed, n, rate)),
        build("rectifier", rectifier) if isinstance(rectifier, str) else rectifier,
        mechanism,
        router,
        seed=seed,
        **scenario,
    )
    requests = result.requests
    in_time = requests["finished_s"] - requests["arrival_s"] <= requests["slo_s"]
    return result, run, in_time


@pytest.mark.parametrize("router", ROUTERS)
def test_every_router_works_with_the_risk_monitor(router):
    result, run, _ = rectified(router, "risk_monitor", rate=90.0)
    refused = result.requests["status"] != 0
    assert_sound(result, run, N, may_fail=bool(refused.any()))
    assert result.counters["reviews"] > 10
    assert result.counters["moves_back"] == 0


@pytest.mark.parametrize("mechanism", sorted(entries("mechanism")))
@pytest.mark.parametrize("rectifier", sorted(set(entries("rectifier")) - {"none"}))
def test_every_rectifier_works_with_every_mechanism(rectifier, mechanism):
    result, run, _ = rectified("least_request", rectifier, mechanism, rate=90.0)
    assert_sound(result, run, N)


def test_the_risk_monitor_saves_whom_it_moves_and_pays():
    gains = []
    for seed in range(4):
        _, _, without = rectified("least_request", build("rectifier", "risk_monitor", interval_s=1e6), seed=seed)
        result, _, with_it = rectified("least_request", "risk_monitor", seed=seed)
        moved = result.requests["migrations"] > 0
        # They were predicted to miss, by an oracle of lengths: nearly all of them make it.
        assert with_it[moved].mean() > 0.9
        assert moved.sum() > 20
        gains.append(with_it.mean() - without.mean())
    assert min(gains) > 0.0


def test_moves_go_from_weak_to_strong_cards():
    result, _, _ = rectified("least_request", "risk_monitor", seed=2)
    moves = result.moves
    moved = moves["outcome"] == Outcome.MOVED
    # V100, A40, A800, H800 stand in the order of their strength.
    assert np.mean(moves["target"][moved] > moves["source"][moved]) > 0.95
    assert np.nanmean(moves["next_token_s"][moved] - moves["stopped_s"][moved]) < 0.2


def test_memory_pressure_makes_llumnix_move():
    result, run = inside(
        paper_pool(kv_blocks=400),
        sized(poisson(3, N, 60.0)),
        build("rectifier", "llumnix", interval_s=0.25),
        "live_kv_copy",
        "round_robin",
    )
    assert_sound(result, run, N)
    assert result.counters["migrations"] > 0


def test_scrapes_that_are_left_out_change_nothing(monkeypatch):
    """Where only the monitor reads gauges, a run with every scrape leaves the same bytes."""
    some, *_ = rectified("random", "risk_monitor", rate=90.0)
    monkeypatch.setattr(Scenario, "routes_by_gauges", True)
    every, *_ = rectified("random", "risk_monitor", rate=90.0)
    assert columns_equal(some.requests, every.requests)
    assert columns_equal(some.moves, every.moves)
    assert 2 * some.counters["scrapes"] < every.counters["scrapes"]
    assert some.counters["migrations"] > 0
