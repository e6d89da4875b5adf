"""While nothing is in flight nothing is done; what goes on afterwards is what would have gone on without a rest."""

from __future__ import annotations

from math import inf

import pytest
from cluster_cases import columns_equal, paper_pool, poisson, simulate_on, single
from hypothesis import given
from hypothesis import strategies as st

from gsim.cluster import TelemetryConfig
from gsim.cluster.fault_config import Fault, FaultConfig
from gsim.core import build
from gsim.gateway.loops import Loops, times_before

FAULTS = FaultConfig(
    planned=(
        Fault("telemetry", 30.0, 400.0, 1),
        Fault("crash", 55.0, 120.0, 3),
        Fault("slow", 200.0, 100.0, 2, 0.5),
        Fault("crash", 300.0, 10.0, 0),
    )
)


LOADS = {
    "on the tick": lambda: single([30.0 * i for i in range(20)], [200] * 20, [300] * 20),
    "at random": lambda: poisson(7, 40, 0.05),
    "several at an instant": lambda: single([100.25, 100.25, 1e3, 1e3], [200] * 4, [20] * 4),
}


@pytest.mark.parametrize("faults", [None, FAULTS], ids=["", "faults"])
@pytest.mark.parametrize("router", ["goodserve", "llumnix_freeness"])
@pytest.mark.parametrize("load", LOADS)
def test_a_rest_changes_nothing(load, router, faults, monkeypatch) -> None:
    def simulated():
        return simulate_on(
            paper_pool(),
            LOADS[load](),
            router,
            rectifier=build("rectifier", "risk_monitor"),
            mechanism=build("mechanism", "token_ids"),
            telemetry=TelemetryConfig(interval_s=0.5, stream_interval_s=0.5, log_decisions=True),
            faults=faults,
        )

    slept = simulated()
    monkeypatch.setattr(Loops, "rest", lambda self, loop: None)
    awake = simulated()
    assert columns_equal(slept.requests, awake.requests)
    assert slept.counters["reviews"] == awake.counters["reviews"]
    assert slept.counters["scrapes"] < awake.counters["scrapes"]
    # A decay over one long time is that over many short ones but for rounding.
    routed = [(one, other) for one, other in zip(slept.decisions, awake.decisions, strict=True) if "tpot_s" in one]
    for one, other in routed:
        for name in ("queue_s", "prefill_s_per_token", "tpot_s", "waiting", "kv_usage"):
            assert one[name] == pytest.approx(other[name], rel=1e-9, abs=1e-12), (name, one["time_s"])


def test_ten_days_of_idle_cost_what_their_requests_cost() -> None:
    result = simulate_on(
        paper_pool(),
        single([86_400.0 * i for i in range(10)], [200] * 10, [100] * 10),
        "goodserve",
        rectifier=build("rectifier", "risk_monitor"),
        mechanism=build("mechanism", "token_ids"),
        telemetry=TelemetryConfig(interval_s=0.05),
    )
    assert result.counters["scrapes"] + result.counters["reviews"] < 2000


@given(st.floats(0, 1e6), st.floats(1e-3, 1e3), st.integers(0, 3000), st.floats(0, 1))
def test_times_are_those_of_one_addition_after_another(begin_s, interval_s, count, share) -> None:
    last_s, due_s, now_s = -inf, begin_s, begin_s + interval_s * (count + share)
    while due_s < now_s:
        last_s, due_s = due_s, due_s + interval_s
    assert times_before(now_s, begin_s, interval_s) == (last_s, due_s)


def test_ages_are_not_counted_one_by_one() -> None:
    last_s, due_s = times_before(1e9, 0.05, 0.05)
    assert last_s < 1e9 <= due_s
    assert due_s - last_s == pytest.approx(0.05, abs=1e-6)


def test_a_time_that_does_not_advance_ends() -> None:
    assert times_before(1e16 + 4, 1e16, 0.5) == (1e16, 1e16 + 4)
    assert times_before(1e17, inf, inf) == (-inf, inf)
