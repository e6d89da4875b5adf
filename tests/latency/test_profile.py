from __future__ import annotations

import dataclasses
import math
import pickle
from pathlib import Path

import pytest

from gsim.core import Batch, Chunk
from gsim.latency import IterationGrid, MixedCost, constant_profile, load_profile, profile_names, unloaded_latency_s

POOL = ["v100-llama-3.1-8b", "a40-llama-3.1-8b", "a800-llama-3.1-8b", "h800-llama-3.1-8b"]


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_loads_and_answers(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile is load_profile(name)
    assert pickle.loads(pickle.dumps(profile)).provenance == profile.provenance
    sequences = min(profile.max_num_seqs, profile.kv_tokens // 256)
    assert profile.latency.iteration_s(Batch((), sequences, 256 * sequences, 256)) > 0
    chunk = Chunk(min(profile.max_num_batched_tokens, profile.max_model_len), 0)
    assert profile.latency.iteration_s(Batch((chunk,), 0, 0, 0)) > 0
    assert 0 < profile.nominal_tpot_s < 0.2
    assert 0 < profile.nominal_prefill_s_per_token < 1e-3
    assert profile.nominal_tokens_per_s > 100


def test_the_pool_is_ordered_by_speed() -> None:
    profiles = [load_profile(name) for name in POOL]
    for signal in ("nominal_tpot_s", "nominal_prefill_s_per_token"):
        values = [getattr(p, signal) for p in profiles]
        assert values[-1] == min(values)
        assert values[2] < min(values[0], values[1])
    assert profiles[3].nominal_tokens_per_s > profiles[2].nominal_tokens_per_s > profiles[1].nominal_tokens_per_s


def test_unloaded_latency_is_the_sum_of_its_iterations() -> None:
    profile = load_profile("v100-llama-3.1-8b")
    iteration_s = profile.latency.iteration_s
    expected = iteration_s(Batch((Chunk(2048, 0),), 0, 0, 0)) + iteration_s(Batch((), 1, 2048, 2048))
    expected += math.fsum(iteration_s(Batch((), 1, 2049 + i, 2049 + i)) for i in range(9))
    assert unloaded_latency_s(profile, 2049, 10) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="at least 1"):
        unloaded_latency_s(profile, 0, 5)


def test_a_constant_profile_takes_iterations_times_the_constant() -> None:
    profile = constant_profile(0.01)
    assert unloaded_latency_s(profile, 100, 50) == pytest.approx(0.5)
    assert profile.latency.decode_run_iterations(3, 30, 10, 0.1) == 10


def test_the_mixed_cost_of_a_shipped_profile_is_borne_out_by_its_card(shared: Path) -> None:
    """Joint launches on an RTX PRO 6000: with its factor the composed profile is nearer to mixed iterations."""
    measured = load_profile(shared / "data" / "profiles" / "operator" / "rtxpro6000-llama-3.1-8b-tp1").latency
    shipped = load_profile("rtxpro6000-llama-3.1-8b").latency
    assert isinstance(shipped, IterationGrid)
    assert shipped.mixed.kv_factor == 1.5
    plain = dataclasses.replace(shipped, mixed=MixedCost())
    batches = [
        Batch((Chunk(chunk, 0),), decodes, decodes * context, context)
        for chunk in (64, 256, 512, 1024, 2048)
        for decodes in (4, 8, 16, 32, 64)
        for context in (512, 1024, 2048, 4096, 8192)
    ]
    errors, without = (
        sorted(abs(latency.iteration_s(batch) / measured.iteration_s(batch) - 1.0) for batch in batches)
        for latency in (shipped, plain)
    )
    middle, ninth = len(batches) // 2, 9 * len(batches) // 10
    assert errors[middle] < 0.045 < 0.06 < without[middle]
    assert errors[ninth] < 0.10 < 0.19 < without[ninth]
