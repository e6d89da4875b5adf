"""Migrations in simulated time: what they cost, what they keep, and how they end."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from cluster_cases import poisson, single
from hypothesis import given, settings
from hypothesis import strategies as st
from move_cases import Scripted, Wild, assert_sound, inside, spec

from gsim.cluster import InstanceSpec
from gsim.cluster.fault_config import Fault, FaultConfig
from gsim.core import Job, Outcome, Request, Session
from gsim.engine import EngineConfig
from gsim.latency import constant_profile
from gsim.migration import LinkConfig
from gsim.migration.kv_copy import KvCopy
from gsim.migration.live_kv_copy import LiveKvCopy
from gsim.migration.token_ids import TokenIds

MECHANISMS = ["token_ids", "kv_copy", "live_kv_copy"]


def one_move(mechanism, prompt=1600, output=200, review=5, pool=None, link="rdma_100g", **scenario):
    """One request on instance 0, moved to instance 1 at a review; its move and its row."""
    pool = pool or (spec("a"), spec("b"))
    sessions = single([0.0], [prompt], [output])
    plan = Scripted({review: [(0, 1)]})
    result, run = inside(pool, sessions, plan, mechanism, link=LinkConfig(link), **scenario)
    assert_sound(result, run, 1)
    return {name: values[0] for name, values in result.moves.items()}, result


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_moved_request_ends_at_its_target_with_all_its_tokens(mechanism):
    move, result = one_move(mechanism)
    r = {name: values[0] for name, values in result.requests.items()}
    assert move["outcome"] == Outcome.MOVED
    assert (r["instance"], r["migrations"], r["generated_tokens"]) == (1, 1, 200)
    assert r["first_token_s"] < move["stopped_s"] < move["next_token_s"] <= r["finished_s"]
    assert [i.requests for i in result.instances] == [0, 1]


def test_token_ids_pay_the_prefill_again_and_kv_copy_does_not():
    by_ids, replayed = one_move("token_ids")
    by_copy, copied = one_move("kv_copy")
    # Constant iterations: a prompt of 1600 tokens and its 50 outputs prefill in one iteration, as one decode does.
    assert by_ids["computed_tokens"] == replayed.requests["recomputed_tokens"][0] == by_ids["context_tokens"] - 1
    assert by_copy["computed_tokens"] == copied.requests["recomputed_tokens"][0] == 0
    assert by_copy["copied_bytes"] == (by_copy["context_tokens"] - 1) * 131072
    assert by_ids["copied_bytes"] == by_ids["context_tokens"] * 4


def test_stop_and_copy_stands_still_for_control_and_bytes():
    move, _ = one_move(KvCopy(control_s=0.25), link="rdma_10g")
    stood_s = move["submitted_s"] - move["stopped_s"]
    # Busy factor: the source's cache is almost empty, so the rate is the idle one.
    assert stood_s == pytest.approx(0.25 + 5e-6 + move["copied_bytes"] / 1e9, rel=1e-4)


def test_a_live_copy_keeps_decoding_until_its_last_stage():
    stop, _ = one_move("kv_copy", prompt=8000, output=400, link="rdma_10g")
    live, _ = one_move("live_kv_copy", prompt=8000, output=400, link="rdma_10g")
    assert live["stages"] == 2
    assert live["stopped_s"] > stop["stopped_s"] + 0.5
    stood = [move["submitted_s"] - move["stopped_s"] for move in (stop, live)]
    assert stood[1] < 0.05 * stood[0]
    # Everything is copied once: the tail that was being written goes with the last stage.
    assert live["copied_bytes"] == (live["context_tokens"] - 1) * 131072


def test_a_live_copy_that_cannot_catch_up_is_given_up():
    move, result = one_move(LiveKvCopy(last_stage_blocks=1, max_stages=2), prompt=8000, output=900, link="tcp_10g")
    assert move["outcome"] == Outcome.GIVEN_UP
    assert move["stages"] == 2
    assert np.isnan(move["stopped_s"])
    assert result.requests["instance"][0] == 0


def test_a_live_copy_ends_with_its_request():
    move, result = one_move("live_kv_copy", prompt=8000, output=70, link="rdma_10g")
    assert move["outcome"] == Outcome.ENDED
    assert (result.requests["instance"][0], result.requests["migrations"][0]) == (0, 0)


class ById:
    """Request i to instance i."""

    def route(self, request, view):
        return request.request_id


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_only_token_ids_wait_for_room_at_the_target(mechanism):
    small = InstanceSpec("b", constant_profile(0.01, kv_tokens=4000), EngineConfig())
    sessions = sized(single([0.0, 0.0], [1600, 3000], [200, 900]))
    result, run = inside((spec("a"), small), sessions, Scripted({5: [(0, 1)]}), mechanism, ById())
    assert_sound(result, run, 2)
    by_ids = mechanism == "token_ids"
    assert result.moves["outcome"][0] == (Outcome.MOVED if by_ids else Outcome.GIVEN_UP)
    assert result.requests["instance"][0] == (1 if by_ids else 0)
    # At the target it waits until the other has left.
    assert (result.requests["finished_s"][0] > 9.0) == by_ids


def sized(sessions):
    """Requests that say how long they may get (instances refuse what could outgrow them)."""
    for session in sessions:
        (job,) = session.jobs
        request = job.request._replace(max_output_tokens=job.output_tokens)
        yield session._replace(jobs=(job._replace(request=request),))


def test_a_request_that_could_outgrow_the_target_is_not_moved():
    small = InstanceSpec("b", constant_profile(0.01, kv_tokens=1024), EngineConfig())
    move, _ = one_move("token_ids", pool=(spec("a"), small))
    assert move["outcome"] == Outcome.REFUSED


def test_kv_copy_between_unlike_layouts_falls_back_or_refuses():
    pool = (spec("a"), spec("b", layout="other"))
    fallen, _ = one_move(KvCopy(), pool=pool)
    assert fallen["outcome"] == Outcome.MOVED
    assert not fallen["carries_kv"]
    refused, _ = one_move(KvCopy(fallback="refuse"), pool=pool)
    assert refused["outcome"] == Outcome.REFUSED


def test_a_waiting_request_moves_without_state():
    # One sequence at a time: the second request waits behind the first, and starts at once on instance 1.
    pool = (spec("a", max_num_seqs=1), spec("b"))
    result, run = inside(pool, single([0.0, 0.0], [1600, 1600], [500, 10]), Scripted({5: [(1, 1)]}), "kv_copy")
    assert_sound(result, run, 2)
    assert result.moves["copied_bytes"][0] == 0
    assert result.requests["finished_s"][1] < 1.0 < result.requests["finished_s"][0]


def test_a_second_move_waits_for_the_first():
    pool = (spec("a"), spec("b"), spec("c"))
    plan = Scripted({5: [(0, 1), (0, 2)]})
    result, run = inside(pool, single([0.0], [1600], [200]), plan, "kv_copy")
    assert_sound(result, run, 1)
    assert result.moves["outcome"].tolist() == [Outcome.MOVED, Outcome.REFUSED]


def test_a_move_back_is_counted():
    pool = (spec("a"), spec("b"))
    job = Job(Request(0, 0.0, 160, 300, 60.0, content=((1, 160),)), 300, output_segment=2)
    plan = Scripted({5: [(0, 1)], 10: [(0, 0)]})
    result, run = inside(pool, iter([Session(0, 0.0, (job,))]), plan, "token_ids")
    assert_sound(result, run, 1)
    assert result.counters["migrations"] == 2
    assert result.counters["moves_back"] == 1
    # Instance 0 still has the blocks of the first stay in its prefix cache: only what is newer is computed again.
    first, second = result.moves["context_tokens"] - 1
    assert result.requests["recomputed_tokens"][0] == first + second - first // 16 * 16


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("dies", [0, 1])
def test_an_end_that_dies_in_mid_move_loses_nothing(mechanism, dies):
    # 8000 tokens are a gigabyte: at 1 GB/s both the stages and the stop last from 0.5 s to after the crash.
    fault = Fault("crash", at_s=0.6, for_s=3.0, instance=dies)
    made = KvCopy(control_s=0.5) if mechanism == "kv_copy" else mechanism
    made = TokenIds(control_s=0.5) if mechanism == "token_ids" else made
    move, result = one_move(
        made, prompt=8000, output=300, link="rdma_10g", faults=FaultConfig(planned=(fault,)), router="least_request"
    )
    assert result.counters["fault_crash"] == 1
    assert result.requests["generated_tokens"][0] == 300
    expected = {
        ("token_ids", 0): Outcome.MOVED,  # the gateway has the ids: the source is not needed any more
        ("token_ids", 1): Outcome.FELL_BACK,
        ("kv_copy", 0): Outcome.FELL_BACK,
        ("kv_copy", 1): Outcome.FELL_BACK,
        ("live_kv_copy", 0): Outcome.ENDED,
        ("live_kv_copy", 1): Outcome.GIVEN_UP,
    }
    assert move["outcome"] == expected[mechanism, dies]


@pytest.mark.parametrize("dies", [0, 1])
def test_what_was_copied_is_lost_even_if_the_dead_end_is_back_in_time(dies):
    # It dies and is back while the hand-over's messages are on their way.
    faults = FaultConfig(planned=(Fault("crash", at_s=0.6, for_s=0.1, instance=dies),))
    move, result = one_move(KvCopy(control_s=0.5), prompt=8000, output=300, faults=faults, router="least_request")
    assert move["outcome"] == Outcome.FELL_BACK
    assert result.requests["recomputed_tokens"][0] > 8000


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    mechanism=st.sampled_from(MECHANISMS),
    engine=st.sampled_from(["stepwise", "decode_clock"]),
    share=st.floats(0.02, 0.9),
    kv_blocks=st.integers(40, 120),
    crashes=st.lists(
        st.tuples(st.floats(0, 4), st.floats(0.01, 2), st.integers(0, 3), st.sampled_from(["crash", "slow"])),
        max_size=6,
    ),
    on_crash=st.sampled_from(["retry", "fail"]),
    link=st.sampled_from(["tcp_10g", "rdma_400g"]),
)
def test_invariants_hold_under_wild_migrations_and_crashes(
    seed, mechanism, engine, share, kv_blocks, crashes, on_crash, link
):
    rng = np.random.default_rng(seed)
    n = 40
    pool = tuple(
        InstanceSpec(
            f"i{i}",
            dataclasses.replace(constant_profile(0.004 * (1 + i), max_num_seqs=6), layout="ab"[i % 2]),
            EngineConfig(name=engine, kv_blocks=kv_blocks),
        )
        for i in range(4)
    )
    sessions = sized(single(np.sort(rng.uniform(0, 2, n)), rng.integers(1, 300, n), rng.integers(1, 200, n)))
    faults = FaultConfig(
        planned=tuple(Fault(kind, at_s, for_s, where) for at_s, for_s, where, kind in crashes), on_crash=on_crash
    )
    result, run = inside(
        pool, sessions, Wild(seed, share), mechanism, "least_request", faults=faults, link=LinkConfig(link)
    )
    assert_sound(result, run, n, may_fail=on_crash == "fail")


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_equal_seeds_give_equal_moves(mechanism):
    def once():
        pool = tuple(spec(f"i{i}", 0.01 * (i + 1)) for i in range(3))
        result, _ = inside(pool, poisson(3, 60, 20.0), Wild(1, 0.1), mechanism, "round_robin", seed=4)
        return {**result.requests, **result.moves}

    first, again = once(), once()
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
