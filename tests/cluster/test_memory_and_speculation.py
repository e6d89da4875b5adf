"""Host memory and speculation in whole runs: moves, crashes, pairing, and what the results say of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cluster_cases import columns_equal, paper_pool, poisson, simulate_on
from hypothesis import given, settings
from hypothesis import strategies as st
from move_cases import Scripted, assert_sound, inside, spec

from gsim.cluster.fault_config import Fault, FaultConfig
from gsim.core import Job, Request, Session
from gsim.engine import EngineConfig
from gsim.engine.host_kv import HostKvConfig
from gsim.engine.speculation import SpeculationConfig
from gsim.metrics import count_metrics
from gsim.run.pool import InstanceGroup, PoolConfig

SPECULATION = SpeculationConfig(num_speculative_tokens=3, acceptance=0.7)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 300), st.integers(1, 90)), min_size=1, max_size=12),
    st.integers(26, 60),
    st.lists(st.tuples(st.floats(0.05, 2), st.integers(0, 2)), max_size=2),
    st.dictionaries(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2)), max_size=3)),
    st.sampled_from(["token_ids", "kv_copy", "live_kv_copy"]),
)
@settings(max_examples=25)
def test_answers_are_whole_after_moves_and_crashes(requests, kv_blocks, crashes, moves, mechanism):
    """Several tokens come at once; where a request goes on, it goes on with the token after the last one."""
    config = EngineConfig(kv_blocks=kv_blocks, speculation=SPECULATION, host_kv=HostKvConfig(blocks=40))
    pool = tuple(replace(spec(name), engine=config) for name in "abc")
    faults = FaultConfig(planned=tuple(Fault("crash", at_s=at, for_s=0.3, instance=i) for at, i in crashes))
    known = {at: [(i, to) for i, to in plan if i < len(requests)] for at, plan in moves.items()}

    def load():
        for i, (at, prompt, output) in enumerate(sorted(requests)):
            yield Session(i, at, (Job(Request(i, at, prompt, 1 << 16, 60.0, session_id=i), output),))

    result, run = inside(pool, load(), Scripted(known), mechanism, "round_robin", faults=faults, max_hold_s=1e6)
    assert_sound(result, run, len(requests), may_fail=True)


def test_a_run_tells_what_was_accepted():
    result = simulate_on(paper_pool(speculation=SPECULATION), poisson(1, 60, 30.0))
    told = count_metrics(instance.counts for instance in result.instances)
    # 60 requests of 100 to 500 tokens: the last verification of each is cut.
    assert told["tokens_per_verification"] == pytest.approx(SPECULATION.tokens_per_iteration(), rel=0.03)
    assert told["accepted_fraction"] == pytest.approx((told["tokens_per_verification"] - 1) / 3, rel=0.01)
    plain = simulate_on(paper_pool(), poisson(1, 60, 30.0))
    assert count_metrics(instance.counts for instance in plain.instances) == {}
    # The load is the same, token for token: speculation draws from a stream of its own.
    for name in ("arrival_s", "prompt_tokens", "output_tokens", "generated_tokens"):
        assert np.array_equal(result.requests[name], plain.requests[name])


def test_equal_seeds_are_equal_runs_and_others_are_not():
    runs = [simulate_on(paper_pool(speculation=SPECULATION), poisson(1, 30, 30.0), seed=seed) for seed in (4, 4, 5)]
    assert columns_equal(runs[0].requests, runs[1].requests)
    assert not columns_equal(runs[0].requests, runs[2].requests)


def test_counts_outlive_a_crash():
    crash = FaultConfig(planned=(Fault("crash", at_s=1.0, for_s=0.2, instance=0),))
    pool = (replace(spec("a"), engine=EngineConfig(speculation=SPECULATION)), spec("b"))
    counts = simulate_on(pool, poisson(1, 30, 30.0), faults=crash).instances[0].counts
    before = simulate_on(pool, poisson(1, 30, 30.0), faults=None).instances[0].counts
    assert counts["verified"] > 0.3 * before["verified"]


def test_host_memory_pays_where_it_holds_what_comes_again():
    """Turns of sessions that push one another off the card: less is computed, and the first token comes sooner."""

    def sessions():
        number = 0
        for turn in range(3):
            for session in range(12):
                content = ((session, 600 + 40 * turn),)
                request = Request(number, 4.0 * turn + 0.2 * session, 600 + 40 * turn, 1 << 16, 60.0, content=content)
                yield Session(number, request.arrival_s, (Job(request, 5),))
                number += 1

    def run(**host):
        config = EngineConfig(kv_blocks=100, host_kv=HostKvConfig(**host))
        pool = paper_pool()[1:2]
        result = simulate_on((replace(pool[0], engine=config),), sessions())
        told = count_metrics(instance.counts for instance in result.instances)
        return result.requests, told

    without, none = run()
    ample, told = run(size_gb=4.0)
    assert none == {}
    assert ample["cached_tokens"].sum() > without["cached_tokens"].sum() + 10_000
    assert np.array_equal(ample["cached_tokens"] + ample["computed_tokens"], ample["prompt_tokens"])
    assert told["host_hit_fraction"] > 0.4
    assert told["host_in_gb"] == pytest.approx(told["host_hit_fraction"] * ample["prompt_tokens"].sum() * 131072 / 1e9)
    ttft = [float((rows["first_token_s"] - rows["arrival_s"])[12:].mean()) for rows in (without, ample)]
    assert ttft[1] < 0.5 * ttft[0]
    # Over a link on which a copy takes longer than computing, the same hits make it later.
    slow, _ = run(size_gb=4.0, link_gb_per_s=0.2)
    assert np.array_equal(slow["cached_tokens"], ample["cached_tokens"])
    assert float((slow["first_token_s"] - slow["arrival_s"])[12:].mean()) > ttft[0]


def test_an_instance_may_have_its_own():
    own = {"speculation": {"num_speculative_tokens": 2, "acceptance": 0.5}, "host_kv": {"size_gb": 1.0}}
    pool = PoolConfig((InstanceGroup("a40-llama-3.1-8b", engine=own), InstanceGroup("h800-llama-3.1-8b")))
    first, second = pool.build(EngineConfig())
    assert first.limits.speculation == SpeculationConfig(2, 0.5)
    assert first.limits.host_kv is not None
    assert first.limits.host_kv.block_s == pytest.approx(16 * 131072 / 24e9)
    assert (second.limits.speculation, second.limits.host_kv) == (None, None)
