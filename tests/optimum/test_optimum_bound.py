"""The bound: nothing that the real engines do beats it; and it says what it has proven, and no more."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from replay_jobs import Instance, Move, best_assignment, constant, grid, job, latency_s, replay, replay_moves, roofline

from gsim.core import ConfigError, Dependency
from gsim.engine import EngineLimits
from gsim.optimum import BoundConfig, Server, upper_bound

CARDS = (
    Instance(roofline(), EngineLimits(16, 64, 64, 4, 200)),
    Instance(roofline(0.01, 3e-3, 3.0), EngineLimits(16, 64, 64, 8, 200)),
    Instance(roofline(0.02, 1e-4, 1.3, context_token_s=2e-4), EngineLimits(16, 12, 32, 2, 200)),
    Instance(grid(), EngineLimits(16, 9, 64, 8, 200)),
    Instance(grid(), EngineLimits(16, 64, 16, 2, 200, prefix_caching=False)),
    Instance(constant(), EngineLimits(16, 64, 16, 1, 200)),
    Instance(constant(0.01), EngineLimits(4, 20, 8, 2, 80)),
)


@st.composite
def small_worlds(draw):
    cards = draw(st.lists(st.sampled_from(CARDS), min_size=1, max_size=3))
    tightness = draw(st.floats(0.9, 1.8))
    burst_s = draw(st.sampled_from((0.0, 0.05, 0.4)))
    jobs = []
    for i in range(draw(st.integers(3, 6))):
        prompt = draw(st.integers(1, 60))
        output = draw(st.integers(5, 40))
        segment = draw(st.sampled_from((None, None, 7)))
        patient = job(i, draw(st.floats(0.0, burst_s)), prompt, output, 1e3, segment)
        # Around what the request needs alone, so that its fate hangs on its company.
        alone_s = latency_s(draw(st.sampled_from(cards)), patient)
        slo_s = alone_s * tightness * draw(st.floats(0.95, 1.05))
        jobs.append(patient._replace(request=patient.request._replace(slo_s=slo_s)))
    return cards, jobs


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(small_worlds(), st.randoms(use_true_random=False))
def test_no_assignment_and_no_delay_beats_the_bound(world, random):
    cards, jobs = world
    bound = upper_bound(jobs, [card.server(f"i{i}") for i, card in enumerate(cards)])
    assert best_assignment(cards, jobs) <= bound.goodput_requests <= bound.eligible <= len(jobs)
    assert bound.goodput_requests <= bound.lp_bound + 1e-3
    # A router may also hold requests back.
    for _ in range(5):
        held = {j.request.request_id: random.random() * 0.2 for j in jobs}
        where = {j.request.request_id: random.randrange(len(cards)) for j in jobs}
        parts = [[j for j in jobs if where[j.request.request_id] == i] for i in range(len(cards))]
        assert sum(len(replay(c, part, held)) for c, part in zip(cards, parts, strict=True)) <= bound.goodput_requests


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(small_worlds(), st.randoms(use_true_random=False), st.integers(1, 2), st.booleans())
def test_no_migration_beats_the_bound_with_moves(world, random, most, copied):
    cards, jobs = world
    pool = [card.server(f"i{i}") for i, card in enumerate(cards)]
    bound = upper_bound(jobs, pool, max_moves=most)
    for _ in range(10):
        where = {j.request.request_id: random.randrange(len(cards)) for j in jobs}
        moves = [
            Move(
                j.request.arrival_s + random.random() * j.request.slo_s,
                j.request.request_id,
                random.randrange(len(cards)),
            )
            for j in jobs
            for _ in range(most)
        ]
        assert len(replay_moves(cards, jobs, where, moves, copied)) <= bound.goodput_requests


@settings(max_examples=20, deadline=None)
@given(small_worlds())
def test_moves_only_raise_the_bound(world):
    cards, jobs = world
    pool = [card.server(f"i{i}") for i, card in enumerate(cards)]
    still = upper_bound(jobs, pool).goodput_requests
    assert still <= upper_bound(jobs, pool, max_moves=1).goodput_requests
    assert still <= upper_bound(jobs, pool, BoundConfig(max_nodes=1, rounds=1)).goodput_requests


def crowd(count: int = 40, slo_s: float = 1.0) -> list:
    return [job(i, 0.01 * i, 32, 40, slo_s) for i in range(count)]


def test_an_overloaded_instance_is_bounded_well_below_its_eligible_requests():
    card = CARDS[0]
    jobs = crowd()
    bound = upper_bound(jobs, [card.server("a")])
    assert bound.eligible == len(jobs)
    assert len(replay(card, jobs)) <= bound.goodput_requests < len(jobs) / 2
    assert bound.status == "optimal"
    assert bound.cuts > 0


def test_the_bound_grows_with_the_pool_and_equal_instances_are_one_kind():
    server = CARDS[0].server("a")
    jobs = crowd()
    bounds = [
        upper_bound(jobs, [dataclasses.replace(server, name=str(i)) for i in range(n)]).goodput_requests
        for n in (1, 2, 4)
    ]
    assert bounds[0] < bounds[1] < bounds[2]


def test_shares_name_eligible_requests_and_instances():
    pool = [CARDS[0].server("a"), CARDS[2].server("b"), CARDS[0].server("c")]
    bound = upper_bound(crowd(), pool)
    assert bound.share.keys() == set(range(40))
    placed = [instance for row in bound.share.values() for instance in row]
    assert set(placed) <= {0, 1, 2}
    assert sum(sum(row.values()) for row in bound.share.values()) == pytest.approx(bound.goodput_requests, abs=1.0)


def test_no_jobs_and_no_eligible_job_are_bounds_of_zero():
    pool = [CARDS[0].server("a")]
    nothing = upper_bound([], pool)
    assert (nothing.goodput_requests, nothing.jobs, nothing.attainment) == (0, 0, 0.0)
    hopeless = upper_bound([job(0, 0.0, 10, 30, 0.05), job(1, 0.0, 10, 30, 0.05)], pool)
    assert (hopeless.goodput_requests, hopeless.eligible, hopeless.status) == (0, 0, "optimal")
    # Longer than the instance can hold: it cannot be served, whatever its deadline.
    assert upper_bound([job(0, 0.0, 300, 5, 1e6)], pool).goodput_requests == 0


def test_an_instance_that_is_down_serves_nobody_meanwhile():
    card = CARDS[0]
    whole = [card.server("a")]
    jobs = crowd(20)
    always = upper_bound(jobs, whole).goodput_requests
    down = Server.of("a", card.latency, card.limits, down=((0.0, 0.6),))
    assert upper_bound(jobs, [down]).goodput_requests < always
    gone = Server.of("a", card.latency, card.limits, down=((0.0, math.inf),))
    assert upper_bound(jobs, [gone]).goodput_requests == 0
    assert upper_bound(jobs, [gone, *whole]).goodput_requests == always


def test_a_faster_instance_is_bounded_as_one_of_half_the_times():
    card = CARDS[0]
    fast = Server.of("a", card.latency, card.limits, speed=2.0)
    half = roofline(0.005, 1e-4, 2.0, sequence_s=5e-5, context_token_s=5e-6, square_token_s=5e-8)
    assert (
        upper_bound(crowd(), [fast]).goodput_requests
        == upper_bound(crowd(), [Server.of("b", half, card.limits)]).goodput_requests
    )


def test_a_time_out_leaves_a_bound_that_is_proven_if_loose():
    jobs = crowd()
    pool = [CARDS[0].server("a"), CARDS[3].server("b")]
    tight = upper_bound(jobs, pool)
    rushed = upper_bound(jobs, pool, BoundConfig(time_limit_s=1e-9))
    assert rushed.status == "limit"
    assert tight.goodput_requests <= rushed.goodput_requests <= len(jobs)
    assert rushed.gap > tight.gap


def test_both_solvers_agree():
    jobs = crowd(16)
    pool = [CARDS[0].server("a"), CARDS[3].server("b")]
    by_highs = upper_bound(jobs, pool, BoundConfig(solver="HiGHS"))
    by_cbc = upper_bound(jobs, pool, BoundConfig(solver="CBC"))
    assert by_highs.goodput_requests == by_cbc.goodput_requests
    assert (by_highs.solver, by_cbc.solver) == ("HiGHS", "CBC")


def test_a_solver_says_nothing_by_itself():
    # In a process of its own: HiGHS writes its banner once in a process, past Python.
    script = (
        "import pulp; from gsim.optimum.solver import Limits, solve\n"
        "program = pulp.LpProblem('x', pulp.LpMaximize); program += pulp.LpVariable('x', 0, 2.5)\n"
        "print(solve(program, Limits(), use='HiGHS').found)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "2.5\n"
    assert "HiGHS" not in done.stderr


def test_later_turns_of_a_closed_loop_count_if_eligible_and_take_no_room():
    first, second = job(0, 0.0, 20, 10, 1.0), job(1, math.nan, 20, 10, 1.0)
    later = second._replace(after=(Dependency(0, 0.1),))
    never = job(2, math.nan, 20, 10, 1e-3)._replace(after=(Dependency(0, 0.1),))
    bound = upper_bound([first, later, never], [CARDS[0].server("a")])
    assert (bound.goodput_requests, bound.eligible, bound.windowed) == (2, 2, 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pool": []}, "at least one instance"),
        ({"max_moves": -1}, "max_moves"),
        ({"jobs": [job(3, 0.0, 5, 5, 1.0), job(3, 0.0, 5, 5, 1.0)]}, "request_id 3"),
        ({"jobs": [job(3, 0.0, 0, 5, 1.0)]}, "prompt_tokens"),
        ({"jobs": [job(3, 0.0, 5, 5, math.nan)]}, "slo_s"),
    ],
)
def test_bad_input_is_named(change, says):
    arguments = {"jobs": [job(0, 0.0, 5, 5, 1.0)], "pool": [CARDS[0].server("a")]} | change
    with pytest.raises(ConfigError, match=says):
        upper_bound(**arguments)


@pytest.mark.parametrize(
    "fields", [{"time_limit_s": 0.0}, {"gap": -0.1}, {"rounds": 0}, {"max_nodes": 0}, {"solver": "guess"}, {"grid": 0}]
)
def test_bad_settings_are_named(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        BoundConfig(**fields)


@pytest.mark.parametrize("fields", [{"speed": 0.0}, {"kv_tokens": 0}, {"down": ((2.0, 1.0),)}])
def test_bad_servers_are_named(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        dataclasses.replace(CARDS[0].server("a"), **fields)


def test_a_latency_model_without_a_proven_floor_is_refused():
    class Guess:
        def iteration_s(self, batch):
            return 0.1

    with pytest.raises(ConfigError, match="Guess"):
        upper_bound([job(0, 0.0, 5, 5, 1.0)], [Server("a", Guess(), 16, 4, 100, 160)])


def test_equal_input_gives_an_equal_bound():
    rng = np.random.default_rng(3)
    jobs = [job(i, float(rng.uniform(0, 0.5)), 20, int(rng.integers(5, 40)), 0.8) for i in range(30)]
    pool = [CARDS[0].server("a"), CARDS[3].server("b")]
    first, again = upper_bound(jobs, pool), upper_bound(jobs, pool)
    assert (first.goodput_requests, first.lp_bound, first.share) == (
        again.goodput_requests,
        again.lp_bound,
        again.share,
    )
