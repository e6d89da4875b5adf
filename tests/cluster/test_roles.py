"""Pools with roles: what a handover costs, what it keeps, and that nobody is lost on the way."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from cluster_cases import single
from hypothesis import given, settings
from hypothesis import strategies as st
from move_cases import Scripted
from role_cases import CONTROL_S, KV_BYTES, LATENCY_S, SLOW, assert_handed_over, handed, pool, row
from test_accounting import sharing

from gsim.cluster import InstanceSpec, Scenario, Status
from gsim.cluster.fault_config import Fault, FaultConfig
from gsim.core import HOLD, REJECT, ConfigError, Outcome, build, entries
from gsim.handover.dynamo import Dynamo
from gsim.handover.least_kv import LeastKv
from gsim.handover.mooncake import Mooncake
from gsim.latency import constant_profile
from gsim.run.audit import audit
from gsim.run.migration_metrics import migration_metrics

ENGINES = ["stepwise", "decode_clock"]
ROUTERS = [name for name, entry in entries("router").items() if not getattr(entry.cls, "offline", False)]
#: One prompt of 1,600 tokens on the wire of ``SLOW``.
COPY_S = CONTROL_S + 1600 * KV_BYTES / 1e9 + LATENCY_S


@pytest.mark.parametrize("engine", ENGINES)
def test_a_handover_takes_its_control_message_and_its_bytes(engine):
    result, run = handed(pool("prefill", "decode", engine=engine), single([0.0], [1600], [50]))
    assert_handed_over(result, run, 1)
    r, h = row(result.requests), row(result.handovers)
    assert (h["source"], h["target"], h["context_tokens"], h["copied_bytes"]) == (0, 1, 1600, 1600 * KV_BYTES)
    assert r["first_token_s"] == h["stopped_s"] == pytest.approx(0.01)
    assert h["submitted_s"] - h["stopped_s"] == pytest.approx(COPY_S)
    # The prompt came with its KV: one iteration makes the second token, and 48 follow.
    assert r["finished_s"] - h["submitted_s"] == pytest.approx(49 * 0.01)
    assert (r["cached_tokens"], r["computed_tokens"], r["recomputed_tokens"]) == (0, 1601, 0)
    assert (r["instance"], r["migrations"]) == (1, 0)
    assert [i.requests for i in result.instances] == [0, 1]
    audit(result)
    told = migration_metrics(result)
    assert told["handed_over"] == 1.0
    assert told["mean_copy_ms"] == pytest.approx(COPY_S * 1e3)
    assert told["mean_handover_ms"] == pytest.approx(COPY_S * 1e3 + 10)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_transfer_bound_split_takes_what_its_link_takes(engine):
    """Sixteen prompts of one iteration share one link: the last one has arrived when all bytes have."""
    instances = pool("prefill", "decode", engine=engine, max_num_batched_tokens=16 * 1600)
    result, run = handed(instances, single([0.0] * 16, [1600] * 16, [2] * 16))
    assert_handed_over(result, run, 16)
    h = result.handovers
    assert h["stopped_s"] == pytest.approx(np.full(16, 0.01))
    assert h["submitted_s"] == pytest.approx(np.full(16, 0.01 + CONTROL_S + 16 * 1600 * KV_BYTES / 1e9 + LATENCY_S))
    assert result.requests["finished_s"] == pytest.approx(h["submitted_s"] + 0.01)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_compute_bound_split_takes_what_its_prefills_take(engine):
    """A prompt fills an iteration of 0.3 s, and a copy takes less: prompts follow one another, outputs at once."""
    prefill, decode = pool("prefill", "decode", engine=engine, max_num_batched_tokens=1600)
    slow = dataclasses.replace(prefill, profile=constant_profile(0.3, max_num_batched_tokens=1600))
    result, run = handed((slow, decode), single([0.0] * 8, [1600] * 8, [2] * 8))
    assert_handed_over(result, run, 8)
    first_s = 0.3 * np.arange(1, 9)
    assert result.requests["first_token_s"] == pytest.approx(first_s)
    assert result.requests["finished_s"] == pytest.approx(first_s + COPY_S + 0.01)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_source_holds_the_blocks_until_they_have_arrived(engine):
    """Room for one prompt: the next one is computed when the first one's copy has arrived."""
    instances = pool("prefill", "decode", engine=engine, kv_blocks=101)
    result, run = handed(instances, single([0.0, 0.0], [1600, 1600], [2, 2]))
    assert_handed_over(result, run, 2)
    assert result.requests["first_token_s"] == pytest.approx([0.01, 0.01 + COPY_S + 0.01])


@pytest.mark.parametrize("engine", ENGINES)
def test_without_room_at_the_target_a_request_waits_there(engine):
    """The decode instance has blocks for one of the two: the other one is not lost."""
    prefill, decode = pool("prefill", "decode", engine=engine)
    small = dataclasses.replace(decode, engine=dataclasses.replace(decode.engine, kv_blocks=120))
    result, run = handed((prefill, small), single([0.0, 0.0], [1600, 1600], [200, 200]))
    assert_handed_over(result, run, 2)
    h, r = result.handovers, result.requests
    assert h["submitted_s"].max() < 0.5
    first, last = np.argsort(r["finished_s"])
    assert r["finished_s"][first] < 2.6
    # Its next token comes when the other one has left.
    assert h["next_token_s"][last] == pytest.approx(r["finished_s"][first] + 0.01)


def test_layer_by_layer_only_the_last_layer_is_left_where_the_prefill_is_long():
    prefill, decode = pool("prefill", "decode", max_num_batched_tokens=1600)
    long = dataclasses.replace(prefill, profile=constant_profile(1.0, max_num_batched_tokens=1600))
    overlap = LeastKv(when="arrival", overlap=True)
    result, run = handed((long, decode), single([0.0], [1600], [2]), overlap)
    assert_handed_over(result, run, 1)
    h = row(result.handovers)
    layers = long.profile.model.layers
    assert h["copied_bytes"] == pytest.approx(1600 * KV_BYTES / layers)
    # A short prefill hides what the link carries meanwhile: as told by the nominal speed of a prompt of 512 tokens.
    short, run = handed((prefill, decode), single([0.0], [1600], [2]), overlap)
    assert row(short.handovers)["copied_bytes"] == pytest.approx(1600 * KV_BYTES - 1600 / 512 * 0.01 * 1e9)


def test_one_token_is_an_answer_and_nothing_is_handed_over():
    result, run = handed(pool("prefill", "decode"), single([0.0, 0.0], [100, 100], [1, 2]))
    assert_handed_over(result, run, 2)
    assert result.handovers["request_id"].tolist() == [1]
    assert result.requests["instance"].tolist() == [0, 1]


def test_what_is_short_or_cached_stays_where_it_is():
    """Dynamo's rule, on an instance for both: the third prompt is long, but all but 8 tokens of it are cached."""
    load = sharing([0.0, 1.0, 3.0], [900, 1600, 1608], [20, 20, 20], shared=1600, segment=lambda i: min(i, 1))
    result, run = handed(pool("both", "decode"), load, Dynamo())
    assert_handed_over(result, run, 3)
    assert result.handovers["request_id"].tolist() == [1]
    assert result.requests["instance"].tolist() == [0, 1, 0]


def test_both_without_a_rule_serves_its_requests_to_the_end():
    result, run = handed(pool("both", "decode"), single([0.0], [1600], [20]))
    assert_handed_over(result, run, 1)
    assert len(result.handovers["request_id"]) == 0


@pytest.mark.parametrize("router", ROUTERS)
def test_every_router_chooses_first_legs_and_no_decode_instance(router):
    rng = np.random.default_rng(3)
    load = single(np.arange(40) * 0.05, rng.integers(20, 400, 40), rng.integers(1, 40, 40), slo_s=60.0)
    result, run = handed(pool("decode", "prefill", "both"), load, router=router)
    assert_handed_over(result, run, 40)
    assert result.counters["refused_connections"] == 0


class Stubborn:
    """Answers what it is told to."""

    def __init__(self, answer):
        self.answer = answer

    def next(self, request, source, view):
        return self.answer


def test_who_is_refused_or_waits_for_too_long_is_rejected_and_its_blocks_return():
    for answer in (REJECT, HOLD):
        result, run = handed(pool("prefill", "decode"), single([0.0], [100], [9]), Stubborn(answer), max_hold_s=2.0)
        assert_handed_over(result, run, 1, may_fail=True)
        assert result.requests["status"].tolist() == [Status.REJECTED]
        assert result.requests["ended_s"][0] == pytest.approx(0.01 if answer is REJECT else 2.01)
    # Chosen at arrival, a refusal costs nothing.
    early = Mooncake(tbt_slo_s=0.001)
    result, run = handed(pool("prefill", "decode"), single([0.0], [100], [9]), early)
    assert result.requests["status"].tolist() == [Status.REJECTED]
    assert [i.busy_s for i in result.instances] == [0.0, 0.0]


def test_a_request_that_no_decode_instance_can_take_is_rejected():
    prefill, decode = pool("prefill", "decode")
    small = dataclasses.replace(decode, profile=constant_profile(0.01, kv_tokens=1024))
    result, run = handed((prefill, small), single([0.0, 0.0], [1024, 500], [9, 9]))
    assert_handed_over(result, run, 2, may_fail=True)
    assert result.requests["status"].tolist() == [Status.REJECTED, Status.FINISHED]


def crash(at_s: float, instance: int, for_s: float = 5.0, **fields) -> FaultConfig:
    return FaultConfig(planned=(Fault("crash", at_s=at_s, for_s=for_s, instance=instance),), **fields)


@pytest.mark.parametrize("when", ["first_token", "arrival"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("at_s", "instance", "handovers", "computed"),
    [
        (0.005, 0, 1, 1601),  # the prompt is being computed: another instance computes it
        (0.011, 0, 2, 1600 + 1602),  # the copy is about to begin: the KV cache is lost, one token is not
        (0.1, 0, 2, 1600 + 1602),  # it is on the wire
        (0.011, 2, 1, 1601),  # the target dies before, or while it is on the wire: the source has it still
        (0.1, 2, 1, 1601),
        (0.5, 0, 1, 1601),  # the source dies afterwards
        (0.5, 2, 2, 1601 + 1629),  # the target does: the request begins again
    ],
)
def test_a_crash_in_any_phase_loses_nobody(when, engine, at_s, instance, handovers, computed):
    instances = pool("prefill", "prefill", "decode", "decode", engine=engine)
    result, run = handed(
        instances, single([0.0], [1600], [60]), LeastKv(when=when), "always_first", faults=crash(at_s, instance)
    )
    assert_handed_over(result, run, 1)
    r, h = row(result.requests), result.handovers
    assert len(h["request_id"]) == handovers
    assert r["computed_tokens"] == computed
    assert r["first_token_s"] == pytest.approx(0.015 if at_s == 0.005 else 0.01)
    assert result.counters["handovers_repeated"] == (1 if instance == 2 and at_s < 0.5 else 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_without_a_decode_instance_a_request_waits_at_its_source(engine):
    instances = pool("prefill", "decode", engine=engine)
    result, run = handed(instances, single([0.5], [1600], [20]), faults=crash(0.0, 1, for_s=3.0))
    assert_handed_over(result, run, 1)
    assert result.handovers["submitted_s"] == pytest.approx([3.0 + COPY_S])
    # Both are away: the source dies while it waits, so the prompt is computed again.
    both = FaultConfig(planned=(*crash(0.0, 1, for_s=3.0).planned, *crash(1.0, 0, for_s=1.0).planned))
    result, run = handed(instances, single([0.5], [1600], [20]), faults=both)
    assert_handed_over(result, run, 1)
    assert result.handovers["outcome"].tolist() == [Outcome.FELL_BACK, Outcome.MOVED]
    assert result.requests["recomputed_tokens"].tolist() == [1600]


def test_where_crashes_are_not_retried_a_lost_copy_fails_its_request():
    faults = crash(0.1, 0, on_crash="fail")
    result, run = handed(pool("prefill", "decode"), single([0.0], [1600], [20]), faults=faults)
    assert_handed_over(result, run, 1, may_fail=True)
    assert result.requests["status"].tolist() == [Status.FAILED]


def test_no_rectifier_moves_a_request_in_its_prefill_leg_or_to_a_prefill_instance():
    plan = Scripted({1: [(0, 2)], 3: [(0, 2)], 50: [(0, 0)], 60: [(0, 3)]}, interval_s=0.01)
    instances = pool("prefill", "decode", "decode", "decode", iteration_s=0.02)
    result, run = handed(instances, single([0.0], [1600], [100]), rectifier=plan)
    assert_handed_over(result, run, 1)
    assert result.moves["target"].tolist() == [2, 2, 0, 3]
    assert result.moves["outcome"].tolist() == [*[Outcome.REFUSED] * 3, Outcome.MOVED]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 300), st.integers(1, 60)), min_size=1, max_size=14),
    st.integers(0, 200),
    st.sampled_from([("prefill", "decode"), ("prefill", "decode", "both"), ("both", "decode", "decode")]),
    st.integers(24, 60),
    st.lists(st.tuples(st.floats(0.05, 2), st.integers(0, 1)), max_size=3),
    st.dictionaries(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 13), st.integers(0, 1)), max_size=3)),
    st.sampled_from(["token_ids", "kv_copy", "live_kv_copy"]),
    st.sampled_from([LeastKv(), LeastKv(when="arrival", overlap=True), Dynamo(max_local_prefill_tokens=100)]),
)
def test_nobody_is_lost_among_roles_moves_and_crashes(
    requests, shared, roles, kv_blocks, crashes, moves, mechanism, handover
):
    """Invariants 1 to 4 and 16 on random loads in tight memory; both engines tell the same story."""
    requests = sorted(requests)
    faults = FaultConfig(planned=tuple(Fault("crash", at_s=at, for_s=0.3, instance=i) for at, i in crashes))
    known = {at: [(i, to) for i, to in plan if i < len(requests)] for at, plan in moves.items()}
    told = []
    for engine in ENGINES:
        # No iteration ends at the very instant of a crash or a review: in the last bit the engines' times may differ.
        instances = pool(*roles, engine=engine, iteration_s=0.0101373, kv_blocks=kv_blocks)
        load = sharing(*zip(*requests, strict=True), shared=shared)
        plan = Scripted(known)
        result, run = handed(
            instances, load, handover, "round_robin", plan, mechanism=mechanism, faults=faults, max_hold_s=1e6
        )
        assert_handed_over(result, run, len(requests), may_fail=True)
        audit(result)
        r = result.requests
        # Nothing grows beyond what an instance holds, so nobody is refused.
        assert np.all(r["status"] == Status.FINISHED)
        assert np.all(r["cached_tokens"] + r["computed_tokens"] >= r["prompt_tokens"])
        told.append(result)
    stepwise, clock = told
    for name in ("instance", "cached_tokens", "computed_tokens", "recomputed_tokens", "preemptions", "migrations"):
        assert np.array_equal(stepwise.requests[name], clock.requests[name]), name
    for name in ("first_token_s", "finished_s"):
        assert clock.requests[name] == pytest.approx(stepwise.requests[name], rel=1e-9)
    assert clock.handovers["target"].tolist() == stepwise.handovers["target"].tolist()


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        (
            ("prefill", "prefill"),
            r"all have role prefill \(prefill-0, prefill-1\).*add an instance with role decode or",
        ),
        (("decode",), r"all have role decode \(decode-0\).*add an instance with role prefill or both"),
    ],
)
def test_a_pool_needs_both_ends(roles, message):
    with pytest.raises(ConfigError, match=message):
        handed(pool(*roles), iter(()))


def test_bad_roles_are_refused_before_the_clock_starts():
    with pytest.raises(ConfigError, match="instance 'a': role 'prefil' is unknown; allowed: both, prefill, decode"):
        InstanceSpec("a", constant_profile(0.1), role="prefil")
    prefill, decode = pool("prefill", "decode")
    other = dataclasses.replace(decode, profile=dataclasses.replace(decode.profile, layout="fp8"))
    with pytest.raises(ConfigError, match=r"one KV layout, not 2 \(.*prefill-0: constant.*\)"):
        handed((prefill, other), iter(()))
    names = {"router": "round_robin", "predictor": "oracle", "estimator": "ema"}
    policies = {group: build(group, name) for group, name in names.items()}
    with pytest.raises(ConfigError, match="needs a policy for handovers"):
        Scenario(instances=(prefill, decode), **policies)
    with pytest.raises(ConfigError, match="needs a target by then: say when=arrival"):
        LeastKv(overlap=True)
    with pytest.raises(ConfigError, match="handover.when 'later' is unknown; allowed: first_token, arrival"):
        LeastKv(when="later")


def test_the_pool_link_is_shared_by_all():
    link = dataclasses.replace(SLOW, scope="pool")
    instances = pool("prefill", "prefill", "decode", "decode")
    result, _ = handed(instances, single([0.0, 0.0], [1600, 1600], [2, 2]), router="round_robin", link=link)
    alone, _ = handed(instances, single([0.0, 0.0], [1600, 1600], [2, 2]), router="round_robin")
    took = [float((r.handovers["submitted_s"] - r.handovers["stopped_s"]).max()) for r in (result, alone)]
    assert took == pytest.approx([CONTROL_S + 2 * 1600 * KV_BYTES / 1e9 + LATENCY_S, COPY_S])
