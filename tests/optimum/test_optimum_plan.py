"""Plans: replayed on the real engines, never worse than what they start from, never better than the bound."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from replay_jobs import Instance, best_assignment, grid, job, replay, roofline

from gsim.core import ConfigError, Dependency
from gsim.engine import EngineLimits
from gsim.optimum import EngineJudge, PlanConfig, plan, upper_bound

POOL = (
    Instance(roofline(), EngineLimits(16, 64, 64, 4, 200)),
    Instance(roofline(0.01, 3e-3, 3.0), EngineLimits(16, 64, 64, 8, 200)),
    Instance(grid(), EngineLimits(16, 9, 64, 8, 200)),
)
SERVERS = [instance.server(f"i{i}") for i, instance in enumerate(POOL)]
FEW = PlanConfig(evaluations=150, budget_s=20.0)


def crowd(count: int, seed: int = 0, slo_s: float = 0.7) -> list:
    rng = np.random.default_rng(seed)
    lengths = zip(rng.uniform(0, 0.3, count), rng.integers(5, 60, count), rng.integers(5, 40, count), strict=True)
    return [job(i, float(at), int(prompt), int(output), slo_s) for i, (at, prompt, output) in enumerate(lengths)]


def judge_of(jobs) -> EngineJudge:
    return EngineJudge(jobs, [(i.latency, i.limits) for i in POOL])


def goods(jobs, assignment) -> set[int]:
    """The judge's verdict, made without it, on the reference engine."""
    good = set()
    for index, instance in enumerate(POOL):
        good |= replay(instance, [j for j in jobs if assignment.get(j.request.request_id) == index])
    return good


def test_the_judge_is_the_reference_engine():
    jobs = crowd(24)
    judge = judge_of(jobs)
    rng = np.random.default_rng(1)
    for _ in range(10):
        assignment = {j.request.request_id: (None, 0, 1, 2)[rng.integers(4)] for j in jobs}
        assert judge(assignment) == goods(jobs, assignment)


def test_the_judge_replays_only_what_changed():
    jobs = crowd(24)
    judge = judge_of(jobs)
    assignment = {j.request.request_id: j.request.request_id % 3 for j in jobs}
    judge(assignment)
    judge(assignment | {0: 1})
    assert judge.replays == 5


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(3, 6), st.integers(0, 10_000), st.floats(0.2, 0.8))
def test_small_plans_lie_between_their_starts_and_the_best_assignment(count, seed, slo_s):
    jobs = crowd(count, seed, slo_s)
    rng = np.random.default_rng(seed)
    starts = {f"random {k}": {i: int(rng.integers(3)) for i in range(count)} for k in range(3)}
    found = plan(jobs, SERVERS, judge_of(jobs), rng, starts, FEW)
    best = best_assignment(POOL, jobs)
    assert max(len(goods(jobs, start)) for start in starts.values()) <= len(found.good) <= best
    assert best <= upper_bound(jobs, SERVERS).goodput_requests
    assert found.good == goods(jobs, found.assignment)
    assert found.start_good == max(found.starts.values()) <= len(found.good)


def test_local_search_helps_a_crowd():
    jobs = crowd(40)
    spread = {i: i % 3 for i in range(40)}
    found = plan(jobs, SERVERS, judge_of(jobs), np.random.default_rng(0), {"spread": spread}, FEW)
    assert len(found.good) > found.start_good >= len(goods(jobs, spread))
    assert len(found.good) <= upper_bound(jobs, SERVERS).goodput_requests
    # Whoever misses is refused.
    assert {r for r, instance in found.assignment.items() if instance is not None} == set(found.good)


def test_equal_input_gives_an_equal_plan():
    jobs = crowd(30)
    first, again = (plan(jobs, SERVERS, judge_of(jobs), np.random.default_rng(5), None, FEW) for _ in range(2))
    assert (first.assignment, first.good, first.evaluations) == (again.assignment, again.good, again.evaluations)


def test_without_a_budget_the_best_start_is_the_plan():
    jobs = crowd(20)
    starts = {"first": dict.fromkeys(range(20), 0), "spread": {i: i % 3 for i in range(20)}}
    config = PlanConfig(evaluations=0, fills=())
    found = plan(jobs, SERVERS, judge_of(jobs), np.random.default_rng(0), starts, config)
    assert found.assignment == starts[found.start]


def test_no_jobs_and_hopeless_jobs_are_plans_without_good_requests():
    rng = np.random.default_rng(0)
    assert plan([], SERVERS, judge_of([]), rng).good == frozenset()
    hopeless = [job(0, 0.0, 20, 30, 0.01)]
    assert plan(hopeless, SERVERS, judge_of(hopeless), rng, {"a": {0: 1}}).good == frozenset()


def test_an_instance_that_is_down_gets_nothing_from_the_program():
    jobs = crowd(20, slo_s=2.0)
    down = [dataclasses.replace(SERVERS[0], down=((0.0, math.inf),)), *SERVERS[1:]]
    found = plan(jobs, down, judge_of(jobs), np.random.default_rng(0), None, PlanConfig(evaluations=0))
    assert 0 not in set(found.assignment.values())


def test_bad_input_is_named():
    jobs = crowd(3)
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="at least one instance"):
        plan(jobs, [], judge_of(jobs), rng)
    with pytest.raises(ConfigError, match=r"start 'a': request 1 is on instance 7 of 3"):
        plan(jobs, SERVERS, judge_of(jobs), rng, {"a": {1: 7}})
    with pytest.raises(ConfigError, match="request 9 arrives when others end"):
        judge_of([job(9, math.nan, 5, 5, 1.0)._replace(after=(Dependency(0, 0.0),))])
    for fields in ({"evaluations": -1}, {"budget_s": 0.0}, {"fills": (1.5,)}, {"haste": 1.0}):
        with pytest.raises(ConfigError, match=next(iter(fields))):
            PlanConfig(**fields)
