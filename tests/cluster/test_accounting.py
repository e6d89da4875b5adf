"""Invariant 16: hits and what was computed are a request's prompt, once for every instance that it was on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from cluster_cases import simulate_on
from hypothesis import given, settings
from hypothesis import strategies as st
from move_cases import Scripted, assert_sound, inside, spec

from gsim.cluster import InstanceSpec, Status
from gsim.cluster.fault_config import Fault, FaultConfig
from gsim.core import Job, Request, Session
from gsim.engine import EngineConfig
from gsim.engine.host_kv import HostKvConfig
from gsim.metrics import summarise

ENGINES = ["stepwise", "decode_clock"]


def sharing(arrivals_s, prompts, outputs, shared: int = 0, segment=lambda i: 1):
    """Single requests whose prompts begin with ``shared`` tokens of the same text (``segment(i)`` names it)."""
    for i, (at, prompt, output) in enumerate(zip(arrivals_s, prompts, outputs, strict=True)):
        content = ((segment(i), min(shared, prompt)), (-1, max(0, prompt - shared)))
        request = Request(i, float(at), prompt, 1 << 16, 60.0, session_id=i, content=content)
        yield Session(i, float(at), (Job(request, output),))


class Follower:
    """Routes in turn, and keeps the prompt of every request each time that it is sent somewhere."""

    def __init__(self) -> None:
        self.turn = 0
        self.prompts: dict[int, list[int]] = defaultdict(list)

    def route(self, request, view):
        self.turn += 1
        up = np.flatnonzero(view.available)
        return int(up[self.turn % len(up)]) if len(up) else 0

    def placed(self, request, instance):
        self.prompts[request.request_id].append(request.prompt_tokens)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_the_target_of_a_retry_has_cached_is_not_computed_again(engine):
    pool = tuple(replace(spec(name), engine=EngineConfig(name=engine)) for name in "ab")
    crash = FaultConfig(planned=(Fault("crash", at_s=0.205, instance=0),))
    load = sharing([0.0, 0.0], [160, 160], [50, 50], shared=160)
    result, _ = inside(pool, load, None, None, Follower(), faults=crash)
    r = result.requests
    lost = int(np.flatnonzero(r["computed_tokens"] > 160)[0])
    # 20 tokens had streamed; the other instance holds the prompt's ten blocks, and of its own 20 tokens none.
    assert (r["cached_tokens"][lost], r["computed_tokens"][lost], r["recomputed_tokens"][lost]) == (160, 160 + 20, 19)
    assert (r["cached_tokens"][1 - lost], r["computed_tokens"][1 - lost]) == (0, 160)
    assert summarise(r)["cached_fraction"] == pytest.approx(160 / 500)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_waited_where_an_instance_crashed_was_not_computed_there(engine):
    pool = tuple(replace(spec(name), engine=EngineConfig(name=engine, max_num_seqs=1)) for name in "ab")
    crash = FaultConfig(planned=(Fault("crash", at_s=0.105, instance=0),))
    load = sharing([0.0, 0.01], [100, 100], [50, 50])
    result, _ = inside(pool, load, None, None, "always_first", faults=crash)
    assert result.requests["recomputed_tokens"].tolist() == [100 + 10 - 1, 0]
    assert result.requests["computed_tokens"].tolist() == [100 + 110, 100]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 300), st.integers(1, 60)), min_size=1, max_size=14),
    st.integers(0, 200),
    st.integers(24, 60),
    st.lists(st.tuples(st.floats(0.05, 2), st.integers(0, 2)), max_size=3),
    st.dictionaries(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 13), st.integers(0, 2)), max_size=3)),
    st.sampled_from(["token_ids", "kv_copy", "live_kv_copy"]),
    st.sampled_from([0, 0, 6, 500]),
)
def test_hits_and_computed_are_the_prompts_of_all_legs(requests, shared, kv_blocks, crashes, moves, mechanism, host):
    # Reviews and crashes come at round times, and iterations end at others: at one instant, whether a token came before
    # a move is a matter of the last bit, in which the engines' times may differ.
    requests = sorted((at + 0.000417, prompt, output) for at, prompt, output in requests)
    faults = FaultConfig(planned=tuple(Fault("crash", at_s=at, for_s=0.3, instance=i) for at, i in crashes))
    known = {at: [(i, to) for i, to in plan if i < len(requests)] for at, plan in moves.items()}
    rows = []
    for engine in ENGINES:
        router = Follower()
        config = EngineConfig(name=engine, kv_blocks=kv_blocks, host_kv=HostKvConfig(blocks=host))
        pool = tuple(replace(spec(name), engine=config) for name in "abc")
        load = sharing(*zip(*requests, strict=True), shared=shared)
        result, run = inside(pool, load, Scripted(known), mechanism, router, faults=faults, max_hold_s=1e6)
        r = result.requests
        rows.append(r)
        assert_sound(result, run, len(requests), may_fail=True)
        seen = r["cached_tokens"] + r["computed_tokens"]
        for i in np.flatnonzero(r["status"] == Status.FINISHED):
            legs = router.prompts[int(i)]
            # Whoever went on with a longer prompt had shown a token, and so has the last.
            shown = [leg for leg, after in pairwise([*legs, 1 << 30]) if after > leg]
            if mechanism == "token_ids" or len(legs) == 1:
                assert sum(shown) <= seen[i] <= sum(legs)
            if len(legs) == 1:
                assert seen[i] == r["prompt_tokens"][i]
                assert r["recomputed_tokens"][i] == 0
            assert seen[i] <= sum(legs)
            assert 0 <= r["recomputed_tokens"][i] <= r["computed_tokens"][i]
        fraction = summarise(r)["cached_fraction"]
        assert np.isnan(fraction) or 0.0 <= fraction <= 1.0
    for name in ("cached_tokens", "computed_tokens", "recomputed_tokens"):
        assert np.array_equal(rows[0][name], rows[1][name]), name


class Counting:
    """Iterations that all take 10 ms, and count the tokens that they compute."""

    def __init__(self) -> None:
        self.tokens = 0

    def iteration_s(self, batch):
        self.tokens += batch.decodes + sum(chunk.tokens for chunk in batch.chunks)
        return 0.01


def test_computed_tokens_are_what_the_iterations_computed():
    counting = Counting()
    profile = replace(spec("a").profile, latency=counting)
    pool = (InstanceSpec("a", profile, EngineConfig(name="stepwise")),)
    simulate_on(pool, sharing([0.0], [1], [1]))
    # What a router is told of a profile's speed is asked of it as well, in every run.
    asked = counting.tokens - 1
    counting.tokens = 0
    rng = np.random.default_rng(5)
    prompts, outputs = rng.integers(1, 9000, 30).tolist(), rng.integers(1, 40, 30).tolist()
    load = sharing(np.arange(30) * 0.05, prompts, outputs, shared=4000, segment=lambda i: i % 3)
    r = simulate_on(pool, load).requests
    assert r["cached_tokens"].sum() > 10_000
    assert counting.tokens - asked == r["computed_tokens"].sum() + (r["generated_tokens"] - 1).sum()
    assert np.array_equal(r["cached_tokens"] + r["computed_tokens"], r["prompt_tokens"])
