"""Limits: the profile's values by default, and refusals that name the field."""

from __future__ import annotations

import pytest

from gsim.core import ConfigError
from gsim.engine import EngineConfig, EngineLimits, make_engine
from gsim.latency import constant_profile


def test_none_means_the_profile():
    limits = EngineConfig().resolve(constant_profile(0.01, kv_tokens=1000, max_num_seqs=8, max_num_batched_tokens=64))
    assert (limits.kv_blocks, limits.max_num_seqs, limits.max_num_batched_tokens) == (62, 8, 64)
    # The profile allows longer sequences than the KV blocks hold.
    assert limits.max_model_len == 62 * 16


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_num_batched_tokens": 4}, r"max_num_batched_tokens \(4\) must be at least engine.max_num_seqs \(8\)"),
        ({"max_num_seqs": 9}, "engine.max_num_seqs is 9, but profile 'constant' allows at most 8"),
        ({"max_num_seqs": 0}, "engine.max_num_seqs must be from 1 to 2147483647, not 0"),
        ({"block_size": 0}, "engine.block_size must be 1 or more, not 0"),
        ({"kv_blocks": 10**18}, "engine.kv_blocks must be from 1 to 2147483647, not 1000000000000000000"),
        ({"kv_blocks": 0}, "engine.kv_blocks must be from 1 to 2147483647, not 0"),
        ({"kv_blocks": 4, "max_model_len": 65}, "engine.max_model_len is 65, but the KV blocks .* hold 64 tokens"),
        ({"max_model_len": 1}, "engine.max_model_len must be 2 or more"),
        ({"policy": "lifo"}, "engine.policy 'lifo' unknown; allowed: .*edf, fcfs, "),
        ({"policy": {"ageing": 2}}, r"engine.policy must be a name, or {name: NAME, field: value}; not {'ageing': 2}"),
        ({"policy": {"name": "edf", "ageing": 2}}, "scheduler has no field 'ageing'; its fields are: none"),
        ({"policy": {"name": "shortest_predicted", "ageing": -1}}, "scheduler.ageing must be 0 or more"),
        ({"watermark": 1.0}, r"engine.watermark must be in \[0, 1\), not 1.0"),
        ({"cpu_schedule_s": float("nan")}, "engine.cpu_schedule_s must be 0 or more, not nan"),
        ({"long_prefill_token_threshold": -1}, "engine.long_prefill_token_threshold must be 0"),
    ],
)
def test_what_vllm_would_not_start_is_refused(fields, message):
    profile = constant_profile(0.01, kv_tokens=1000, max_num_seqs=8, max_num_batched_tokens=64)
    with pytest.raises(ConfigError, match=message):
        EngineConfig(**fields).resolve(profile)


def test_engines_are_made_by_name():
    profile = constant_profile(0.01)
    limits = EngineConfig().resolve(profile)
    assert isinstance(limits, EngineLimits)
    for name in ("stepwise", "decode_clock"):
        assert make_engine(name, profile.latency, limits).next_event_s() == float("inf")
    with pytest.raises(ConfigError, match="unknown engine 'vidur'; there are: decode_clock, stepwise"):
        make_engine("vidur", profile.latency, limits)
