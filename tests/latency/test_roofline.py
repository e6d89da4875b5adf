from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsim.core import Batch, Chunk, ProfileError
from gsim.latency import Domain, Extent, MixedCost, SoftRoofline

EXTENT = Extent(256, 8192, 8192)
LIMIT = Extent(1024, 16384, 131072)


def soft_roofline(**changes: Any) -> SoftRoofline:
    fields: dict[str, Any] = {
        "domain": Domain(EXTENT, LIMIT, "test"),
        "weights_s": 6.4e-3,
        "token_s": 1.8e-5,
        "sharpness": 1.55,
        "sequence_s": 2.5e-6,
        "context_token_s": 4.4e-8,
        "square_token_s": 7.8e-10,
        "overhead_s": 1e-3,
    }
    return SoftRoofline(**(fields | changes))


MODEL = soft_roofline()


@given(st.integers(1, 1024), st.integers(0, 4000), st.integers(0, 400))
def test_a_decode_run_is_the_sum_of_its_iterations(sequences: int, context: int, iterations: int) -> None:
    total = sequences * context
    steps = (Batch((), sequences, total + i * sequences, context + i) for i in range(iterations))
    expected = math.fsum(MODEL.iteration_s(b) for b in steps)
    assert MODEL.decode_run_s(sequences, total, context, iterations) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@given(st.integers(1, 1024), st.integers(0, 10**6), st.floats(0, 100))
def test_decode_run_iterations_is_the_largest_that_fits(sequences: int, context: int, span_s: float) -> None:
    n = MODEL.decode_run_iterations(sequences, context, 0, span_s)
    assert n >= 0
    assert n == 0 or MODEL.decode_run_s(sequences, context, 0, n) <= span_s
    assert MODEL.decode_run_s(sequences, context, 0, n + 1) > span_s


@given(st.integers(1, 512), st.integers(0, 2000), st.integers(1, 3000))
def test_the_inverse_hits_run_lengths_exactly(sequences: int, context: int, iterations: int) -> None:
    span_s = MODEL.decode_run_s(sequences, context, 0, iterations)
    assert MODEL.decode_run_iterations(sequences, context, 0, span_s) == iterations


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=5))
def test_prefill_attention_does_not_depend_on_the_chunking(sizes: list[int]) -> None:
    flat = soft_roofline(weights_s=1e-9, token_s=0.0, overhead_s=0.0)
    whole = flat.iteration_s(Batch((Chunk(sum(sizes), 0),), 0, 0, 0))
    parts, context = 0.0, 0
    for size in sizes:
        parts += flat.iteration_s(Batch((Chunk(size, context),), 0, 0, 0))
        context += size
    assert parts == pytest.approx(whole, rel=1e-9, abs=1e-8)


def test_the_formula_at_a_mixed_step() -> None:
    batch = Batch((Chunk(512, 1024), Chunk(100, 0)), 8, 4000, 900)
    dense = (6.4e-3**1.55 + (1.8e-5 * 620) ** 1.55) ** (1 / 1.55)
    expected = 1e-3 + dense + 8 * 2.5e-6 + 4000 * 4.4e-8 + 7.8e-10 * (1536**2 - 1024**2 + 100**2)
    assert MODEL.iteration_s(batch) == pytest.approx(expected, rel=1e-12)


def test_a_mixed_iteration_takes_its_cost_and_no_other_does() -> None:
    dear = soft_roofline(mixed=MixedCost(kv_factor=1.8, iteration_s=0.002))
    alone = (Batch((), 8, 4000, 900), Batch((Chunk(512, 1024),), 0, 0, 0))
    assert all(dear.iteration_s(batch) == MODEL.iteration_s(batch) for batch in alone)
    both = Batch((Chunk(512, 1024),), 8, 4000, 900)
    assert dear.iteration_s(both) == pytest.approx(MODEL.iteration_s(both) + 0.002 + 0.8 * 4000 * 4.4e-8)
    assert soft_roofline(mixed=MixedCost()).iteration_s(both) == MODEL.iteration_s(both)


@pytest.mark.parametrize("value", [0.9, -1.0, math.nan, math.inf])
def test_a_chunk_makes_no_decode_cheaper(value: float) -> None:
    with pytest.raises(ProfileError, match=r"mixed.kv_factor must be a finite number of at least 1"):
        MixedCost(kv_factor=value)
    with pytest.raises(ProfileError, match=r"mixed.iteration_s must be a finite number of at least 0"):
        MixedCost(iteration_s=-abs(value))


def test_doubled_coefficients_double_every_time() -> None:
    names = ("weights_s", "token_s", "sequence_s", "context_token_s", "square_token_s", "overhead_s")
    double = soft_roofline(**{name: 2 * getattr(MODEL, name) for name in names})
    rng = random.Random(1)
    for _ in range(100):
        batch = Batch((Chunk(rng.randint(2, 999), rng.randint(0, 999)),), rng.randint(0, 99), rng.randint(0, 9999), 0)
        assert double.iteration_s(batch) == 2 * MODEL.iteration_s(batch)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (Batch((), 1025, 1025, 1), r"1025 sequences.*ends at 1024 \(measured up to 256\)"),
        (Batch((), 2, 200_000, 131_073), "131073 context tokens"),
        (Batch((Chunk(16_000, 0),), 500, 500, 1), "16500 batch tokens.*16384"),
        (Batch((Chunk(2, 131_072),), 0, 0, 0), "context tokens"),
        (Batch((), 0, 0, 0), "without any sequence"),
    ],
)
def test_questions_outside_the_domain_are_refused(batch: Batch, words: str) -> None:
    with pytest.raises(ProfileError, match=words):
        MODEL.iteration_s(batch)


@pytest.mark.parametrize(
    "changes",
    [
        {"weights_s": 0.0},
        {"token_s": -1e-9},
        {"sharpness": 0.5},
        {"square_token_s": math.nan},
        {"overhead_s": math.inf},
    ],
)
def test_coefficients_that_give_no_time_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ProfileError, match=next(iter(changes))):
        soft_roofline(**changes)
