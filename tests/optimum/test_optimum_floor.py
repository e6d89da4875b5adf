"""The floor under latency models, and the payments derived from it: never above what an iteration takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_jobs import constant, grid, roofline

from gsim.core import Batch, Chunk
from gsim.latency import OperatorModel, load_profile, operator_profile
from gsim.optimum.minorant import Extent, convex_floor, minorant
from gsim.optimum.price import Crowd, prices

CONTEXTS = (20, 900)
EXTENT = Extent(256, 48, CONTEXTS)
MODELS = {
    "constant": constant(),
    "roofline": roofline(),
    "sharp roofline": roofline(0.02, 1e-3, 8.0, overhead_s=0.004, square_token_s=1e-4),
    "grid": grid(),
    **{name: load_profile(f"{name}-llama-3.1-8b").latency for name in ("v100", "a40", "a800", "h800")},
}
FLOORS = {name: minorant(model, EXTENT) for name, model in MODELS.items()}


@st.composite
def batches(draw):
    """Decodes at contexts of the run, chunks of at least 2 tokens, and lone prompt tokens (decodes to the engine)."""
    contexts = draw(st.lists(st.integers(*CONTEXTS), max_size=40))
    lone = draw(st.lists(st.integers(0, 600), max_size=3))
    chunks = draw(st.lists(st.tuples(st.integers(2, 60), st.integers(0, 500)), max_size=3))
    if not contexts and not lone and not chunks:
        contexts = [CONTEXTS[0]]
    return contexts, lone, chunks


def seconds(model, batch) -> float:
    contexts, lone, chunks = batch
    decodes = [*contexts, *lone]
    return model.iteration_s(
        Batch(tuple(Chunk(*c) for c in chunks), len(decodes), sum(decodes), max(decodes, default=0))
    )


def least(floor, batch) -> float:
    """What the floor says of it, lone tokens counted as prefilled ones."""
    contexts, lone, chunks = batch
    count, prefilled = len(contexts), len(lone) + sum(tokens for tokens, _ in chunks)
    one = np.array([count])
    shared = floor.residual((one, one), (one + prefilled, one + prefilled))[0, 0]
    positions = sum(lone) + sum(sum(range(behind, behind + tokens)) for tokens, behind in chunks)
    return shared + floor.context_token_s * sum(contexts) + 2.0 * floor.square_token_s * positions


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=60, deadline=None)
@given(batches())
def test_no_iteration_takes_less_than_the_floor(name, batch):
    assert least(FLOORS[name], batch) <= seconds(MODELS[name], batch) * (1.0 + 1e-9)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=40, deadline=None)
@given(batches(), st.sampled_from((1.0, 1.5, 2.5)))
def test_the_payments_of_a_batch_fit_into_its_iteration(name, batch, rho):
    floor = FLOORS[name]
    contexts, lone, chunks = batch
    prefilled = len(lone) + sum(tokens for tokens, _ in chunks)
    (level,) = prices(floor, (rho,), Crowd(48, 256))
    took = np.array([seconds(MODELS[name], batch)])
    paid = float(len(contexts) * level.decode(took)[0] + prefilled * level.prefill(took)[0])
    assert paid + floor.context_token_s * sum(contexts) <= took[0] * (1.0 + 1e-9)


@pytest.mark.parametrize("name", ["roofline", "v100", "a800", "h800"])
def test_the_floor_is_no_more_than_a_tenth_too_low_for_pure_decodes(name):
    """A floor of 0 would pass every other test."""
    for count in (1, 8, 32, 48):
        batch = ([300] * count, [], [])
        assert least(FLOORS[name], batch) >= 0.9 * seconds(MODELS[name], batch)


def test_a_floor_by_tokens_is_convex_and_its_ratio_never_rises():
    for floor in FLOORS.values():
        line = floor.floor_s
        assert (np.diff(line, 2) >= -1e-12).all()
        assert (np.diff(line[1:] / np.arange(1, len(line))) <= 1e-12).all()


@given(st.lists(st.floats(0.1, 10.0), min_size=2, max_size=12))
def test_a_convex_floor_lies_below_its_points(times):
    tokens = np.cumsum(np.arange(1, len(times) + 1)).astype(float)
    line = convex_floor(tokens, np.array(times), int(tokens[-1]) + 20)
    assert (line[tokens.astype(int)] <= np.array(times) + 1e-9).all()
    assert (np.diff(line, 2) >= -1e-9).all()
    assert (np.diff(line) >= -1e-12).all()


def test_price_falls_with_the_length_of_iterations_and_with_the_crowd():
    lengths = np.linspace(0.012, 0.2, 20)
    many, few = (prices(FLOORS["roofline"], (1.0,), Crowd(n, 40 * n))[0].decode(lengths) for n in (40, 4))
    assert (np.diff(many) <= 1e-15).all()
    assert (many <= few + 1e-15).all()
    assert many[-1] < few[-1]


def test_twice_the_speed_is_half_the_floor():
    floor = FLOORS["v100"]
    np.testing.assert_allclose(floor.at_speed(2.0).floor_s, floor.floor_s / 2.0)


OPERATORS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "profiles" / "operator"


@pytest.mark.skipif(not OPERATORS.exists(), reason="the published operator tables are not here")
@settings(max_examples=30, deadline=None)
@given(batches())
def test_the_floor_of_operator_tables_holds(batch):
    profile = operator_profile(OPERATORS / "rtx4090-llama-3.1-8b-tp1")
    assert isinstance(profile.latency, OperatorModel)
    floor = _OPERATOR_FLOOR.setdefault("rtx4090", minorant(profile.latency, EXTENT))
    assert least(floor, batch) <= seconds(profile.latency, batch) * (1.0 + 1e-9)


_OPERATOR_FLOOR: dict = {}
