"""What users of other simulators report as wrong and is right here: first tokens, caches, tiny memory, late clocks."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from cluster_cases import simulate_on, single
from hypothesis import given, settings
from hypothesis import strategies as st
from move_cases import inside, spec
from test_accounting import sharing

from gsim.cluster import InstanceSpec
from gsim.core import Status, build
from gsim.engine import EngineConfig
from gsim.latency import constant_profile
from gsim.metrics import Window, summarise


def pool(n: int = 1, **engine: object) -> tuple[InstanceSpec, ...]:
    """Instances without an API's delay, whose iterations all take 10 ms."""
    return tuple(InstanceSpec(f"s{i}", constant_profile(0.01), EngineConfig(**engine)) for i in range(n))  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["decode_clock", "stepwise"])
def test_the_first_token_comes_after_all_chunks_to_the_digit(engine) -> None:
    rows = simulate_on(pool(name=engine, max_num_batched_tokens=1000), single([0.0], [2500], [5])).requests
    # Three iterations of at most 1000 tokens, then four more for what is left of five tokens.
    assert rows["first_token_s"][0] == pytest.approx(0.03, rel=1e-12)
    assert rows["finished_s"][0] == pytest.approx(0.07, rel=1e-12)
    told = summarise(rows)
    assert told["mean_ttft_ms"] == pytest.approx(30.0, rel=1e-9)
    assert told["mean_tpot_ms"] == pytest.approx(10.0, rel=1e-9)


@pytest.mark.parametrize("engine", ["decode_clock", "stepwise"])
def test_of_a_prompt_that_is_all_cached_its_last_block_is_computed(engine) -> None:
    rows = simulate_on(pool(name=engine), sharing([0.0, 1.0], [512, 512], [4, 4], shared=512)).requests
    assert rows["cached_tokens"].tolist() == [0, 496]
    assert rows["computed_tokens"].tolist() == [512, 16]


@pytest.mark.parametrize("engine", ["decode_clock", "stepwise"])
def test_memory_for_hardly_two_ends_with_all_tokens(engine) -> None:
    load = single([0.001 * i for i in range(12)], [40] * 12, [60] * 12)
    result, run = inside(pool(name=engine, kv_blocks=8), load, build("rectifier", "none"), "token_ids")
    assert (result.requests["status"] == Status.FINISHED).all()
    assert np.array_equal(result.requests["generated_tokens"], result.requests["output_tokens"])
    assert not run.gateway.view.in_flight.any()
    assert result.requests["preemptions"].sum() > 0
    assert np.array_equal(result.requests["computed_tokens"], result.requests["prompt_tokens"])


def test_a_budget_beyond_the_longest_sequence_is_only_a_budget() -> None:
    ample = simulate_on(pool(max_num_batched_tokens=8192, max_model_len=5000), single([0.0], [4900], [5])).requests
    assert ample["first_token_s"][0] == pytest.approx(0.01, rel=1e-12)


def test_where_everything_is_refused_there_are_no_latencies() -> None:
    rows = simulate_on(pool(max_model_len=50), single([0.0, 1.0], [100, 100], [5, 5])).requests
    told = summarise(rows, None, Window())
    assert (rows["status"] == Status.REJECTED).all()
    assert (told["requests"], told["completed"], told["rejected"], told["attainment"]) == (2, 0, 2, 0.0)
    assert isnan(told["mean_e2el_ms"])
    assert isnan(told["mean_ttft_ms"])


def test_those_that_failed_are_in_no_latency() -> None:
    load = single([0.0, 0.0], [100, 5000], [5, 5])
    told = summarise(simulate_on(pool(max_model_len=1000), load).requests)
    assert told["completed"] == 1
    assert told["mean_e2el_ms"] == pytest.approx(50.0, rel=1e-9)


@settings(max_examples=6)
@given(st.sampled_from([1e3, 1e6, 1e9]), st.integers(0, 100))
def test_late_clocks_give_the_same_latencies(offset_s, seed) -> None:
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(0.05, 12))
    prompts, outputs = rng.integers(1, 3000, 12), rng.integers(1, 50, 12)
    # To the microsecond that a float holds there.
    early, late = (
        simulate_on((spec("a"), spec("b", 0.013)), single(arrivals + at, prompts, outputs), "least_latency").requests
        for at in (0.0, offset_s)
    )
    for name in ("first_token_s", "finished_s"):
        differ = (late[name] - late["arrival_s"]) - (early[name] - early["arrival_s"])
        assert np.abs(differ).max() <= 0.0131 * (offset_s >= 1e9) + 1e-9 * offset_s
