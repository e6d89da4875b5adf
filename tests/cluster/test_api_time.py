"""The time that a request spends in a server outside the engine: ``pool.api_s``."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from cluster_cases import paper_pool, poisson, simulate_on, single
from move_cases import Scripted, Wild, assert_sound, inside, spec

from gsim.cluster import InstanceSpec, Status
from gsim.cluster.fault_config import Fault, FaultConfig
from gsim.core import ConfigError, Outcome
from gsim.latency import constant_profile

API_S = 0.02


def behind_an_api(instances: tuple[InstanceSpec, ...], api_s: float = API_S) -> tuple[InstanceSpec, ...]:
    return tuple(dataclasses.replace(instance, api_s=api_s) for instance in instances)


@pytest.mark.parametrize("engine", ["decode_clock", "stepwise"])
def test_every_request_reaches_its_engine_so_much_later_and_nothing_else_changes(engine: str) -> None:
    pool = paper_pool(name=engine)
    plain = simulate_on(pool, poisson(1, 60, 12.0)).requests
    later = simulate_on(behind_an_api(pool), poisson(1, 60, 12.0)).requests
    for name in ("first_token_s", "finished_s"):
        assert later[name] - plain[name] == pytest.approx(API_S, abs=1e-9)
    assert np.array_equal(plain["instance"], later["instance"])


def test_a_moment_in_the_api_is_neither_waiting_nor_running() -> None:
    result = simulate_on(behind_an_api((spec("a"),), 0.5), single([0.0], [100], [3]), telemetry=None)
    row = result.requests
    assert row["first_token_s"][0] == pytest.approx(0.5 + 0.01)
    assert row["finished_s"][0] == pytest.approx(0.5 + 0.03)
    assert result.instances[0].busy_s == pytest.approx(0.03)


@pytest.mark.parametrize("mechanism", ["token_ids", "kv_copy"])
def test_a_request_may_be_taken_away_before_its_engine_has_it(mechanism: str) -> None:
    pool = behind_an_api((spec("a"), spec("b")), 0.25)
    result, run = inside(pool, single([0.0, 0.0], [1600, 100], [20, 20]), Scripted({1: [(0, 1)]}), mechanism)
    assert_sound(result, run, 2)
    assert result.requests["instance"].tolist() == [1, 0]
    # What waits in the API has no KV: it is sent anew, and passes the other server's API.
    assert result.requests["first_token_s"][0] > 0.1 + 0.25


def test_kv_that_comes_from_another_engine_does_not_pass_the_api() -> None:
    times = {}
    for api_s in (0.0, 0.25):
        pool = behind_an_api((spec("a"), spec("b")), api_s)
        result, run = inside(pool, single([0.0], [1600], [200]), Scripted({8: [(0, 1)]}), "kv_copy")
        assert_sound(result, run, 1)
        assert result.moves["outcome"][0] == Outcome.MOVED
        times[api_s] = result.moves["next_token_s"][0] - result.moves["submitted_s"][0]
    assert times[0.25] == pytest.approx(times[0.0])


def test_random_moves_and_crashes_lose_nothing_in_the_api() -> None:
    for salt in range(3):
        pool = behind_an_api(tuple(spec(f"i{i}", 0.004 * (1 + i)) for i in range(3)), 0.06)
        faults = FaultConfig(planned=(Fault("crash", 0.5, 0.3, 0), Fault("crash", 1.1, 0.2, 1)))
        sessions = poisson(salt, 80, 40.0, outputs=(5, 60))
        result, run = inside(pool, sessions, Wild(salt, 0.2), "kv_copy", router="round_robin", faults=faults)
        assert_sound(result, run, 80)
        assert (result.requests["status"] == Status.FINISHED).all()


def test_a_time_that_cannot_be_is_refused() -> None:
    for value in (-0.1, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match=r"pool.api_s must be a finite number of seconds, 0 or more"):
            InstanceSpec("a", constant_profile(0.01), api_s=value)
