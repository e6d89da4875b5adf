"""Values of fields, however they come: inside a field of no type of its own they are typed too, and nan is nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gsim.cluster.slot_config import SlotConfig
from gsim.core import ConfigError
from gsim.engine import EngineConfig
from gsim.metrics.objective import Objective
from gsim.run.choice import Choice
from gsim.run.pool import InstanceGroup, PoolConfig
from gsim.run.schema import construct
from gsim.run.typed import filled
from gsim.scaling.wva import Wva


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({"kv_blocks": "50"}, "engine.kv_blocks must be a whole number, not '50'"),
        ({"kv_blocks": True}, "engine.kv_blocks must be a whole number, not True"),
        ({"kv_blocks": [5]}, r"engine.kv_blocks must be a whole number, not \[5\]"),
        ({"max_num_seqs": 2.5}, "engine.max_num_seqs must be a whole number, not 2.5"),
        ({"watermark": "x"}, "engine.watermark must be a number, not 'x'"),
        ({"prefix_caching": "no"}, "engine.prefix_caching must be true or false, not 'no'"),
        ({"host_kv": 5}, "engine.host_kv must be a mapping of fields, not 5"),
        ({"host_kv": {"blocks": 2.5}}, "engine.host_kv.blocks must be a whole number, not 2.5"),
        ({"host_kv": {"size_gb": 1e300}}, r"host_kv.size_gb must be a number from 0 \(none\) to 1e\+06, not 1e\+300"),
        ({"host_kv": {"blocks": 10**17}}, "host_kv.blocks must be from 0"),
        ({"speculation": {"num_speculative_tokens": "3"}}, "num_speculative_tokens must be a whole number, not '3'"),
    ],
)
def test_an_instances_own_engine_is_typed(engine: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PoolConfig((InstanceGroup("a40-llama-3.1-8b", engine=engine),)).build(EngineConfig())


def test_a_whole_number_may_be_written_as_a_float() -> None:
    pool = PoolConfig((InstanceGroup("a40-llama-3.1-8b", engine={"kv_blocks": 50.0, "watermark": 0}),))
    assert type(pool.build(EngineConfig())[0].limits.kv_blocks) is int


@pytest.mark.parametrize(("name", "field"), [("risk_monitor", "margin_s"), ("llumnix", "out_threshold")])
def test_nan_is_no_number(name: str, field: str) -> None:
    with pytest.raises(ConfigError, match=f"rectifier.{field} must be a number, not nan"):
        Choice.read("rectifier", {"name": name, field: math.nan}).build()


@pytest.mark.parametrize("value", [math.inf, math.nan, 1.5, True, "2"])
def test_a_whole_number_of_a_caller_is_one(value: Any) -> None:
    with pytest.raises(ConfigError, match="group.count must be"):
        filled(InstanceGroup, {"profile": "x"}, {"count": value}, "group")


def test_nested_fields_are_named_in_full() -> None:
    with pytest.raises(ConfigError, match=r"pool.slots.process_s must be a number, not 'soon'"):
        construct(PoolConfig, {"slots": {"process_s": "soon"}}, "pool")
    assert construct(SlotConfig, {"process_s": 3}, "slots").process_s == 3


def test_limits_that_contradict_are_refused() -> None:
    with pytest.raises(ConfigError, match="ttft has two limits"):
        Objective.parse("ttft:500 ttft:600")
    with pytest.raises(ConfigError, match=r"min_replicas.A40 must be 0 or more, not -1"):
        Wva(min_replicas={"A40": -1})
