"""Slots: instances boot, serve, drain and stop; every request ends once whatever they do, on both engines alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
from cluster_cases import columns_equal, constant_pool, paper_pool, poisson, simulate_on, single
from hypothesis import given, settings
from hypothesis import strategies as st

from gsim.cluster import InstanceSpec, Status, TelemetryConfig
from gsim.cluster.fault_config import Fault, FaultConfig
from gsim.cluster.slot_config import SlotConfig
from gsim.core import ClusterView, ConfigError, Drain, Migration, SimulationError, Slots, SlotState, Start, build
from gsim.engine import EngineConfig
from gsim.latency import load_profile
from gsim.migration import LinkConfig
from gsim.run.audit import audit

#: An instance boots for 2 s.
BOOTS = SlotConfig(process_s=2.0, disk_gb_per_s=float("inf"))


@dataclass
class Plan:
    """A scaler that does at each review what a plan says, as far as it can be."""

    plan: Sequence[Sequence[Start | Drain]] = ()
    interval_s: float = 1.0
    seen: list[Slots] = field(default_factory=list)
    needs: ClassVar[frozenset[str]] = frozenset()

    def review(self, slots: Slots, view: ClusterView) -> Sequence[Start | Drain]:
        self.seen.append(slots)
        return self.plan[len(self.seen) - 1] if len(self.seen) <= len(self.plan) else ()


@dataclass
class Lottery:
    """A scaler that draws what it does from what can be done."""

    draws: int
    interval_s: float = 0.7
    needs: ClassVar[frozenset[str]] = frozenset()

    def review(self, slots: Slots, view: ClusterView) -> Sequence[Start | Drain]:
        steps: list[Start | Drain] = []
        left = int(view.available.sum())
        for slot in range(len(slots)):
            self.draws = (self.draws * 6364136223846793005 + 1442695040888963407) % 2**64
            lot = self.draws // 2**61
            if slots.off[slot] and lot < 3:
                steps.append(Start(slot))
            elif slots.coming[slot] and lot < 2 and (left > 1 or not view.available[slot]):
                left -= int(view.available[slot])
                steps.append(Drain(slot))
        return steps


def off(specs, *slots):
    return tuple(replace(spec, up=i not in slots) for i, spec in enumerate(specs))


def states(result, slot):
    return [
        (time, SlotState(state).name.lower())
        for time, at, state in zip(*(result.slots[name].tolist() for name in ("time_s", "slot", "state")), strict=True)
        if at == slot
    ]


def test_an_instance_boots_serves_drains_and_is_paid_from_start_to_stop():
    pool = off(constant_pool(2, 0.01), 1)
    # Slot 0 has a request until 6 s; the one that goes to slot 1 at 4 s takes until 7 s.
    plan = Plan([[Start(1)], [], [], [], [Drain(1)]])
    load = single([0.0, 4.0, 9.0], [10, 10, 10], [600, 300, 10])
    result = simulate_on(pool, load, "least_request", scaler=plan, slots=BOOTS)
    r = result.requests
    assert r["instance"].tolist() == [0, 1, 0]
    gone_s = float(r["finished_s"][1])
    assert gone_s == pytest.approx(7.0, abs=0.05)
    assert states(result, 1) == [(0.0, "off"), (1.0, "booting"), (3.0, "up"), (5.0, "draining"), (gone_s, "off")]
    first, second = result.instances
    assert (first.paid_s, first.starts) == (result.duration_s, 0)
    assert (second.paid_s, second.starts) == (pytest.approx(gone_s - 1.0), 1)
    audit(result)


def test_a_slot_that_is_off_gets_nothing_and_costs_nothing():
    pool = off(constant_pool(3, 0.01), 1)
    result = simulate_on(pool, poisson(1, 60, 20.0), "random", scaler=build("scaler", "fixed"))
    assert np.all(result.requests["status"] == Status.FINISHED)
    assert not np.any(result.requests["instance"] == 1)
    assert result.instances[1].paid_s == 0.0


def test_what_is_asked_for_while_nothing_can_serve_waits_for_who_boots():
    """The only other instance crashes: requests wait at the gateway, and the scaler sees how many."""
    pool = off(constant_pool(2, 0.01), 1)
    plan = Plan([[], [Start(1)]])
    faults = FaultConfig(planned=(Fault("crash", 0.5, 100.0, 0),))
    load = single([0.6, 0.7], [10, 10], [10, 10])
    result = simulate_on(pool, load, "least_request", scaler=plan, slots=BOOTS, faults=faults)
    assert plan.seen[1].held == 2
    assert result.requests["dispatched_s"].tolist() == [4.0, 4.0]
    assert np.all(result.requests["status"] == Status.FINISHED)


@pytest.mark.parametrize("drain", ["finish", "move"])
def test_who_drains_finishes_or_sends_on_what_it_has(drain):
    pool = constant_pool(2, 0.01)
    result = simulate_on(
        pool,
        single([0.0, 0.0], [10, 10], [500, 500]),
        "round_robin",
        scaler=Plan([[Drain(0)]]),
        slots=replace(BOOTS, drain=drain),
    )
    r = result.requests
    assert r["instance"].tolist() == ([0, 1] if drain == "finish" else [1, 1])
    stopped_s = states(result, 0)[-1][0]
    assert stopped_s == pytest.approx(r["finished_s"][0] if drain == "finish" else 1.0)
    assert result.counters["drained"] == (drain == "move")
    assert (r["recomputed_tokens"][0] > 0) == (drain == "move")
    assert np.array_equal(r["generated_tokens"], r["output_tokens"])
    audit(result)


def test_a_source_that_drains_stays_until_its_kv_has_arrived():
    """A rectifier moves the request away by KV copy over a slow link, and the scaler drains its source meanwhile."""
    pool = (*paper_pool()[2:3], *paper_pool()[2:3])
    pool = (pool[0], replace(pool[1], name="other"))

    @dataclass
    class MoveOnce:
        interval_s: float = 1.0
        needs: ClassVar[frozenset[str]] = frozenset()

        def review(self, active, view):
            return [Migration(int(i), 1) for i in active.request_id[(active.moves == 0) & ~active.moving]]

    result = simulate_on(
        pool,
        single([0.0], [4000], [400]),
        "always_first",
        rectifier=MoveOnce(),
        mechanism=build("mechanism", "kv_copy"),
        link=LinkConfig("tcp_10g"),
        scaler=Plan([[], [Drain(0)]], interval_s=0.55),
        slots=BOOTS,
    )
    moved_s = float(result.moves["submitted_s"][0])
    assert moved_s > 1.1
    assert states(result, 0)[-1] == (pytest.approx(moved_s), "off")
    assert result.requests["recomputed_tokens"][0] == 0
    audit(result)


def test_boots_come_from_disk_or_from_a_peer_at_the_stated_rates():
    """16.06 GB of an 8B model in 16 bit; 141.1 GB of a 70B one on four cards, which share a disk and no port."""
    small, large = load_profile("a800-llama-3.1-8b"), load_profile("h800-llama-3.1-70b-tp4")
    disk = SlotConfig(process_s=10.0, disk_gb_per_s=2.0)
    assert disk.boot_s(small, peer=True) == pytest.approx(10.0 + 16.06 / 2.0, rel=1e-3)
    assert disk.boot_s(large, peer=False) == pytest.approx(10.0 + 141.1 / 2.0, rel=1e-3)
    peer = SlotConfig(process_s=10.0, weights_from="peer", disk_gb_per_s=2.0, peer_gb_per_s=10.0)
    assert peer.boot_s(small, peer=True) == pytest.approx(10.0 + 1.606, rel=1e-3)
    assert peer.boot_s(large, peer=True) == pytest.approx(10.0 + 141.1 / 4 / 10.0, rel=1e-3)
    assert peer.boot_s(large, peer=False) == disk.boot_s(large, peer=False)


def test_a_crash_takes_what_drains_and_delays_who_boots():
    pool = off(constant_pool(3, 0.01), 1)
    plan = Plan([[Start(1), Drain(2)]])
    faults = FaultConfig(planned=(Fault("crash", 2.0, 3.0, 1), Fault("crash", 2.5, 1.0, 2)))
    load = single([0.1, 0.1, 6.0, 6.0], [10] * 4, [100, 900, 10, 10])
    result = simulate_on(pool, load, "round_robin", scaler=plan, slots=BOOTS, faults=faults)
    # Slot 2 has a request of nine seconds when it is to stop; it crashes and is off, and the fault's end starts none.
    assert states(result, 2) == [(0.0, "up"), (1.0, "draining"), (2.5, "off")]
    # Slot 1 is up at 3 s and serves when the fault is over, at 5 s.
    assert states(result, 1) == [(0.0, "off"), (1.0, "booting"), (3.0, "up")]
    assert np.all(result.requests["status"] == Status.FINISHED)
    assert result.counters["retries"] == 1
    assert result.requests["instance"][2:].tolist() in ([0, 1], [1, 0])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 12), st.integers(1, 120), st.integers(1, 300)), min_size=1, max_size=25),
    st.integers(0, 2**32),
    st.sampled_from(["finish", "move"]),
    st.booleans(),
)
def test_every_request_ends_once_on_both_engines_alike_whatever_starts_and_stops(requests, draws, drain, crashes):
    faults = FaultConfig(planned=(Fault("crash", 2.1, 1.7, 0), Fault("crash", 3.3, 2.2, 2))) if crashes else None

    def simulated(engine):
        config = EngineConfig(name=engine, kv_blocks=60, max_num_seqs=6)
        specs = [InstanceSpec(f"i{i}", load_profile(f"{gpu}-llama-3.1-8b"), config) for i, gpu in enumerate(CARDS)]
        result = simulate_on(
            off(specs, 1, 3),
            single(*zip(*sorted(requests), strict=True)),
            "least_request",
            scaler=Lottery(draws),
            slots=replace(BOOTS, process_s=0.9, drain=drain),
            faults=faults,
            rectifier=build("rectifier", "risk_monitor"),
            mechanism=build("mechanism", "kv_copy"),
        )
        audit(result)
        return result

    fast, exact = simulated("decode_clock"), simulated("stepwise")
    r = fast.requests
    assert np.array_equal(r["request_id"], np.arange(len(requests)))
    assert np.all(r["status"] == Status.FINISHED)
    assert np.array_equal(r["generated_tokens"], r["output_tokens"])
    assert np.array_equal(r["instance"], exact.requests["instance"])
    for name in ("dispatched_s", "first_token_s", "finished_s"):
        assert np.allclose(r[name], exact.requests[name], rtol=1e-9, atol=1e-9), name
    assert np.allclose(fast.slots["time_s"], exact.slots["time_s"], rtol=1e-9, atol=1e-9)
    for time_s, slot in zip(r["finished_s"].tolist(), r["instance"].tolist(), strict=True):
        assert dict_state(fast, slot, time_s) in ("up", "draining")


CARDS = ("v100", "a40", "a800", "h800")


def dict_state(result, slot, at_s):
    """The state that a slot was in just before a time."""
    return [state for time_s, state in states(result, slot) if time_s < at_s][-1]


def test_a_pool_that_nobody_scales_is_as_it_was_to_the_byte():
    def simulated(**more):
        return simulate_on(paper_pool(), poisson(3, 200, 40.0), "goodserve", telemetry=TelemetryConfig(), **more)

    plain, fixed, idle = simulated(), simulated(scaler=build("scaler", "fixed")), simulated(scaler=Plan())
    assert columns_equal(plain.requests, fixed.requests)
    assert columns_equal(plain.requests, idle.requests)
    assert plain.counters == fixed.counters
    assert not fixed.slots
    assert idle.counters["scaler_reviews"] > 5


def test_a_pool_at_its_least_is_not_reviewed_while_nothing_is_in_flight():
    def reviews(scaler):
        load = single([0.0, 86_400.0], [10, 10], [100, 100])
        return simulate_on(constant_pool(2, 0.01), load, scaler=scaler, slots=BOOTS).counters["scaler_reviews"]

    assert reviews(build("scaler", "target_utilisation", stabilisation_s=60.0)) < 20
    assert reviews(build("scaler", "forecast", interval_s=600.0)) > 100


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ([Drain(0), Drain(1)], "drains every instance that can be sent to (slots [0, 1])"),
        ([Start(0)], "Start(0), which is up; allowed: a slot that is off"),
        ([Drain(2)], "Drain(2), which is off; allowed: a slot that is up or booting"),
        ([Start(7)], "Start(7); allowed: a slot, a whole number from 0 to 2"),
        ([Start(True)], "Start(True); allowed: a slot"),
        ([Start(2), Start(2)], "names slot 2 twice"),
        (["up"], "allowed: Start(slot) or Drain(slot)"),
        (None, "allowed: a sequence of Start and Drain"),
    ],
)
def test_what_a_scaler_may_not_ask_for_is_said(plan, said):
    pool = off(constant_pool(3, 0.01), 2)
    with pytest.raises(SimulationError, match="scaler Plan") as error:
        simulate_on(pool, single([0.0], [10], [300]), scaler=Plan([plan]), slots=BOOTS)
    assert said in str(error.value)


def test_an_interval_of_nothing_and_a_pool_of_nothing_are_errors_before_the_clock_starts():
    with pytest.raises(SimulationError, match="interval_s = 0.0"):
        simulate_on(constant_pool(2, 0.01), single([0.0], [10], [10]), scaler=Plan(interval_s=0.0))
    with pytest.raises(ConfigError, match="at least one instance must be up"):
        simulate_on(off(constant_pool(2, 0.01), 0, 1), single([0.0], [10], [10]))
    for fields, said in (
        ({"process_s": -1.0}, "pool.slots.process_s must be a finite number of seconds, 0 or more, not -1.0"),
        ({"disk_gb_per_s": 0.0}, "pool.slots.disk_gb_per_s must be greater than 0, not 0.0"),
        ({"drain": "kill"}, "pool.slots.drain must be finish or move, not 'kill'"),
        ({"weights_from": "tape"}, "pool.slots.weights_from must be disk or peer, not 'tape'"),
    ):
        with pytest.raises(ConfigError) as error:
            SlotConfig(**fields)
        assert said in str(error.value)
