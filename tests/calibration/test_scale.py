"""Faster copies of a measured profile."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gsim.calibration.options import ScaleOptions
from gsim.calibration.scale import scale_profile
from gsim.core.batch import Batch, Chunk
from gsim.latency import load_profile

PROFILES = Path(__file__).resolve().parents[2] / "profiles"


def test_a_copy_is_faster_in_everything_and_keeps_its_mixed_cost(tmp_path):
    """YAML reads 2e-1 as text, which a profile takes for the number that it spells."""
    content = yaml.safe_load((PROFILES / "a100-llama-2-7b.yaml").read_text(encoding="utf-8"))
    content["latency"] |= {"overhead_ms": "2e-1", "mixed": {"kv_factor": 1.5, "iteration_ms": "3e-1"}}
    content["latency"]["square_token_ms"] = f"{content['latency']['square_token_ms']:e}"
    content["price"]["usd_per_hour"] = "1e+0"
    source = tmp_path / "source.yaml"
    source.write_text(yaml.dump(content))
    one = load_profile(source)
    (path,) = scale_profile(ScaleOptions(profile=str(source), speeds=[2.0], to=str(tmp_path)))
    two = load_profile(path)
    assert two.price_per_hour == pytest.approx(2.0 * one.price_per_hour)
    for chunks, decodes in (((), 8), ((Chunk(256, 0),), 0), ((Chunk(256, 0),), 8)):
        batch = Batch(chunks, decodes, 400 * decodes, 400 * (decodes > 0))
        assert two.latency.iteration_s(batch) == pytest.approx(one.latency.iteration_s(batch) / 2, rel=1e-4)
