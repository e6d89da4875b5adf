from __future__ import annotations

import dataclasses
import math
import pickle
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsim.core import Batch, Chunk, ProfileError
from gsim.latency import Domain, Extent, IterationGrid, MixedCost, load_profile
from gsim.latency.row import DecodeRow


def iteration_grid(**changes: Any) -> IterationGrid:
    fields: dict[str, Any] = {
        "domain": Domain(Extent(8, 2048, 1024), Extent(64, 8192, 131072), "test"),
        "decode_batches": (1, 4, 8),
        "decode_contexts": (128, 512, 1024),
        "decode_s": ((0.010, 0.011, 0.014), (0.012, 0.015, 0.021), (0.013, 0.019, 0.031)),
        "prefill_tokens": (64, 512, 2048),
        "prefill_contexts": (0,),
        "prefill_s": ((0.012,), (0.040,), (0.170,)),
        "square_token_s": 1e-9,
        "overhead_s": 1e-3,
    }
    return IterationGrid(**(fields | changes))


GRID = iteration_grid()


@given(st.integers(1, 64), st.integers(0, 60_000), st.integers(0, 500))
def test_a_decode_run_is_the_sum_of_its_iterations(sequences: int, context: int, iterations: int) -> None:
    steps = (Batch((), sequences, context + i * sequences, 0) for i in range(iterations))
    expected = math.fsum(GRID.iteration_s(batch) for batch in steps)
    assert GRID.decode_run_s(sequences, context, 0, iterations) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.integers(1, 64), st.integers(0, 60_000), st.floats(0, 60))
def test_decode_run_iterations_is_the_largest_that_fits(sequences: int, context: int, span_s: float) -> None:
    n = GRID.decode_run_iterations(sequences, context, 0, span_s)
    assert n == 0 or GRID.decode_run_s(sequences, context, 0, n) <= span_s
    assert GRID.decode_run_s(sequences, context, 0, n + 1) > span_s


@given(st.integers(1, 64), st.integers(0, 60_000), st.integers(1, 3000))
def test_the_inverse_hits_run_lengths_exactly(sequences: int, context: int, iterations: int) -> None:
    span_s = GRID.decode_run_s(sequences, context, 0, iterations)
    assert GRID.decode_run_iterations(sequences, context, 0, span_s) == iterations


@given(
    st.lists(st.tuples(st.integers(1, 500), st.floats(0, 0.1)), min_size=1, max_size=6),
    st.floats(0, 3000),
    st.integers(0, 800),
)
def test_a_row_sums_what_it_says(pieces: list[tuple[int, float]], context: float, iterations: int) -> None:
    knots, times = [3], [0.01]
    for width, rise in pieces:
        knots.append(knots[-1] + width)
        times.append(times[-1] + rise)
    row = DecodeRow(knots, times)
    expected = math.fsum(row.at(context + i) for i in range(iterations))
    assert row.run_s(context, iterations) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert row.iterations(context, row.run_s(context, iterations)) == iterations


def test_measured_points_come_back_with_the_overhead() -> None:
    for i, sequences in enumerate(GRID.decode_batches):
        for j, context in enumerate(GRID.decode_contexts):
            measured = GRID.decode_s[i][j]
            asked = Batch((), sequences, sequences * context, context)
            assert GRID.iteration_s(asked) == pytest.approx(measured + 1e-3)
    for tokens, (measured,) in zip(GRID.prefill_tokens, GRID.prefill_s, strict=True):
        assert GRID.iteration_s(Batch((Chunk(tokens, 0),), 0, 0, 0)) == pytest.approx(measured + 1e-3)


def test_interpolation_is_linear_and_extrapolation_too() -> None:
    assert GRID.iteration_s(Batch((), 2, 2 * 320, 320)) == pytest.approx(1e-3 + (0.0105 * 2 + 0.0135) / 3)
    assert GRID.iteration_s(Batch((), 16, 16 * 1024, 1024)) == pytest.approx(1e-3 + 0.031 + 8 * 0.010 / 4)
    assert GRID.iteration_s(Batch((), 1, 2048, 2048)) == pytest.approx(1e-3 + 0.014 + 1024 * 0.003 / 512)


def test_a_mixed_iteration_costs_at_least_each_of_its_parts() -> None:
    for tokens in (2, 64, 700, 2000):
        for sequences in (1, 5, 8):
            mixed = GRID.iteration_s(Batch((Chunk(tokens, 100),), sequences, 900 * sequences, 900))
            assert mixed >= GRID.iteration_s(Batch((Chunk(tokens, 100),), 0, 0, 0))
            assert mixed >= GRID.iteration_s(Batch((), sequences, 900 * sequences, 900))
            assert mixed >= GRID.iteration_s(Batch((Chunk(tokens, 0),), sequences, 900 * sequences, 900))


def test_a_mixed_iteration_takes_its_cost_and_no_other_does() -> None:
    dear = iteration_grid(mixed=MixedCost(kv_factor=1.8, iteration_s=0.002))
    alone = (Batch((), 5, 4500, 900), Batch((Chunk(700, 100),), 0, 0, 0))
    assert all(dear.iteration_s(batch) == GRID.iteration_s(batch) for batch in alone)
    both = Batch((Chunk(700, 100),), 5, 4500, 900)
    kv_s = GRID.iteration_s(Batch((), 5, 4500, 900)) - GRID.iteration_s(Batch((), 5, 0, 0))
    assert dear.iteration_s(both) == pytest.approx(GRID.iteration_s(both) + 0.002 + 0.8 * kv_s)
    assert iteration_grid(mixed=MixedCost()).iteration_s(both) == GRID.iteration_s(both)
    assert pickle.loads(pickle.dumps(dear)).iteration_s(both) == dear.iteration_s(both)


def test_measured_prefill_contexts_are_used() -> None:
    grid = iteration_grid(
        prefill_contexts=(0, 1024), prefill_s=((0.012, 0.013), (0.040, 0.044), (0.170, 0.190)), square_token_s=0.0
    )
    assert grid.iteration_s(Batch((Chunk(512, 1024),), 0, 0, 0)) == pytest.approx(0.045)
    assert grid.iteration_s(Batch((Chunk(512, 512),), 0, 0, 0)) == pytest.approx(0.043)
    both = Batch((Chunk(512, 1024), Chunk(512, 0)), 0, 0, 0)
    dense_s = grid.iteration_s(Batch((Chunk(1024, 0),), 0, 0, 0))
    assert grid.iteration_s(both) == pytest.approx(dense_s + 0.004)


#: Times that fall a little from point to point, as kernels of another tile do.
uneven = st.lists(st.floats(0.87, 1.4), min_size=9, max_size=9)


def falling(steps: list[float], first_s: float = 0.01) -> tuple[tuple[float, ...], ...]:
    """Three rows of three times, each at most 13 % below its neighbours before it."""
    table = [[0.0] * 3 for _ in range(3)]
    for i in range(3):
        for j in range(3):
            before = [table[i - 1][j]] * (i > 0) + [table[i][j - 1]] * (j > 0)
            table[i][j] = max(0.87 * max(before), min(before) * steps[3 * i + j]) if before else first_s
    return tuple(map(tuple, table))


@given(uneven, uneven, st.floats(1.0, 8.0))
def test_times_stay_above_zero_and_never_fall_beyond_what_was_measured(
    decode: list[float], prefill: list[float], kv_factor: float
) -> None:
    grid = iteration_grid(
        decode_s=falling(decode),
        prefill_s=falling(prefill),
        prefill_contexts=(0, 512, 1024),
        square_token_s=0.0,
        overhead_s=0.0,
    )
    dear = dataclasses.replace(grid, mixed=MixedCost(kv_factor))

    def decode_s(sequences: int, context: int) -> float:
        return grid.iteration_s(Batch((), sequences, sequences * context, context))

    def prefill_s(tokens: int, context: int) -> float:
        return grid.iteration_s(Batch((Chunk(tokens, context),), 0, 0, 0))

    def mixed_s(sequences: int, context: int) -> float:
        batch = Batch((Chunk(512, 0),), sequences, sequences * context, context)
        assert dear.iteration_s(batch) >= grid.iteration_s(batch)
        return dear.iteration_s(batch)

    for line in (
        [decode_s(4, context) for context in (1024, 4096, 131072)],
        [decode_s(sequences, 512) for sequences in (8, 16, 64)],
        [decode_s(64, context) for context in (1024, 4096, 131072)],
        [prefill_s(tokens, 0) for tokens in (2048, 4096, 8192)],
        [prefill_s(512, context) for context in (1024, 8192, 100_000)],
        [prefill_s(tokens, 1024) for tokens in (2048, 4096, 8192)],
        [mixed_s(8, context) for context in (1024, 4096, 131072)],
        [mixed_s(64, context) for context in (1024, 4096, 131072)],
    ):
        assert line[0] > 0.0
        assert all(b >= a * (1 - 1e-12) for a, b in pairwise(line)), line
    assert grid.decode_run_s(8, 8 * 1000, 0, 100_000) > 0.0


def test_beyond_a_fall_times_go_on_along_the_chord() -> None:
    grid = iteration_grid(decode_s=((0.0050, 0.0062, 0.00615),) * 3, overhead_s=0.0)
    rise = (0.00615 - 0.0050) / (1024 - 128)
    assert grid.iteration_s(Batch((), 1, 100_000, 100_000)) == pytest.approx(0.00615 + rise * (100_000 - 1024))
    flat = iteration_grid(decode_s=((0.0062, 0.0062, 0.00615),) * 3, overhead_s=0.0)
    assert flat.iteration_s(Batch((), 1, 100_000, 100_000)) == pytest.approx(0.00615)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decode_batches": (1, 4, 4)}, r"decode.batch\[2\] is 4 after 4"),
        ({"decode_batches": (2, 4, 8)}, "must start at 1"),
        ({"decode_s": ((0.010, 0.011, 0.014), (0.012, 0.015, 0.021))}, "there must be 3 rows of 3 times"),
        ({"decode_s": ((0.010, 0.011, 0.014), (0.012, 0.015, 0.021), (0.013, 0.0, 0.031))}, "above 0"),
        ({"decode_s": ((0.010, 0.011, 0.014), (0.012, 0.015, 0.021), (0.013, 0.009, 0.031))}, "must not fall"),
        (
            {"decode_s": ((0.010, 0.011, 0.014), (0.008, 0.015, 0.021), (0.013, 0.019, 0.031))},
            "0.01 at 1 but 0.008 at 4",
        ),
        ({"prefill_s": ((0.012,), (0.040,), (0.030,))}, "must not fall as prefill.tokens"),
        ({"square_token_s": 1e-6}, "less attention"),
        ({"overhead_s": -1.0}, "overhead"),
    ],
)
def test_broken_tables_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ProfileError, match=words):
        iteration_grid(**changes)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (Batch((), 65, 65, 1), "65 sequences"),
        (Batch((Chunk(9000, 0),), 0, 0, 0), "9000 batch tokens"),
        (Batch((Chunk(100, 131072),), 0, 0, 0), "131172 context tokens"),
        (Batch((), 0, 0, 0), "without any sequence"),
    ],
)
def test_questions_outside_the_domain_are_refused(batch: Batch, words: str) -> None:
    with pytest.raises(ProfileError, match=words):
        GRID.iteration_s(batch)


def test_the_v100_has_its_cliffs() -> None:
    """Published decode curves of this card jump just above 32 and 64 sequences (Helix, per-layer timings)."""
    latency = load_profile("v100-llama-3.1-8b").latency
    times = [latency.iteration_s(Batch((), n, 256 * n, 256)) for n in (31, 32, 33, 64, 65)]
    assert times[2] / times[1] > 1.3
    assert times[1] / times[0] < 1.02
    assert times[3] / times[2] < 1.10
    assert times[4] / times[3] > 1.2
