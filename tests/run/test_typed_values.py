"""Values of fields, however they come: inside a field of no type of its own they are typed too, and nan is nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from gsim.cluster.slot_config import SlotConfig
from gsim.core import ConfigError, lookup
from gsim.core.construct import construct
from gsim.engine import EngineConfig
from gsim.metrics.objective import Objective
from gsim.run.choice import Choice
from gsim.run.options import options
from gsim.run.pool import InstanceGroup, PoolConfig
from gsim.run.typed import defaults, filled
from gsim.scaling.wva import Wva
from gsim.study.study import options_of


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


def test_a_pool_has_room_for_its_instances() -> None:
    with pytest.raises(ConfigError, match="count of 'x' must be from 1 to 100000, not 1000000"):
        PoolConfig((InstanceGroup("x", count=10**6),))
    with pytest.raises(ConfigError, match="pool.copies 60000: that are 120000 instances; at most 100000"):
        PoolConfig((InstanceGroup("x", count=2),), copies=60_000)


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


@pytest.mark.parametrize(
    ("group", "fields", "said"),
    [
        (
            "router",
            {"name": "least_load", "kv_weight_s": math.inf},
            "router.kv_weight_s must be a finite number, not inf",
        ),
        ("rectifier", {"name": "star", "decay": -math.inf}, "rectifier.decay must be a finite number, not -inf"),
        ("slo", {"name": "per_class", "seconds": {"chat": math.inf}}, "slo.seconds.chat must be a finite number"),
        ("faults", {"name": "injected", "crash_every_s": math.inf}, "crash_every_s must be a finite number"),
        ("faults", {"name": "injected", "planned": [{"at_s": math.inf}]}, r"planned\[0\].at_s must be a finite number"),
    ],
)
def test_a_number_is_finite(group: str, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Choice.read(group, fields).build()


@pytest.mark.parametrize(
    ("group", "fields", "said"),
    [
        (
            "router",
            {"name": "edf", "max_in_flight": 2**70},
            "router.max_in_flight must be from -9223372036854775807 to",
        ),
        ("router", {"name": "lodestar", "memory": 10**9}, "router.memory must be from 1 to 1000000, not 1000000000"),
        ("router", {"name": "lodestar", "hidden": 10**9}, "router.hidden must be from 1 to 4096"),
        ("router", {"name": "ilp_rolling", "checkpoints": 10**9}, "router.checkpoints must be from 1 to 10000"),
        ("rectifier", {"name": "risk_monitor", "max_inflight": 2**63}, "rectifier.max_inflight must be from -9"),
        ("rectifier", {"name": "star", "steps": 10**9}, "rectifier.steps must be from 0 to 10000, not 1000000000"),
        ("scaler", {"name": "melange", "slices": 10**6}, "scaler.slices must be from 1 to 1000, not 1000000"),
        ("scaler", {"name": "forecast", "bin_s": 1e-9}, "scaler.bin_s must be 0.1 or more, not 1e-09"),
        (
            "predictor",
            {"name": "constant", "tokens": 1e308},
            r"predictor.tokens must be from 1 to 1000000000, not 1e\+308",
        ),
        (
            "predictor",
            {"name": "history", "prior_tokens": 1e308},
            "predictor.prior_tokens must be from 1 to 1000000000",
        ),
        (
            "predictor",
            {"name": "class_median", "prior_tokens": 1e308},
            "predictor.prior_tokens must be from 1 to 10000",
        ),
        ("predictor", {"name": "uniform_random", "high_tokens": 1e308}, "1 <= low <= high <= 1000000000"),
        (
            "engine",
            {"name": "stepwise", "speculation": {"num_speculative_tokens": 10**9, "acceptance": 0.5}},
            "to 1024",
        ),
    ],
)
def test_a_size_that_no_memory_holds_is_refused_before_the_run(group: str, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Choice.read(group, fields).build()


def test_a_studys_numbers_are_finite() -> None:
    with pytest.raises(ConfigError, match=r"study.rates_per_s\[1\] must be a finite number"):
        options_of(lookup("study", "regret").config, {"rates_per_s": [10.0, math.inf]})


@pytest.mark.parametrize(
    ("group", "fields"),
    [
        ("faults", {"name": "injected", "restart_s": math.inf, "planned": [{"for_s": math.inf}]}),
        ("dynamics", {"name": "burst", "for_s": math.inf}),
        ("router", {"name": "preble", "rebalance": math.inf}),
        ("rectifier", {"name": "llumnix", "no_return_s": math.inf}),
    ],
)
def test_for_ever_is_said_where_it_means_something(group: str, fields: dict[str, Any]) -> None:
    option = options(group)[fields["name"]].config
    assert option is not None
    given = {key: value for key, value in fields.items() if key != "name"}
    assert (
        Choice.read(group, {"name": fields["name"], **filled(option, defaults(option), given, group)}).build()
        is not None
    )


@dataclass
class Patient:
    """Somebody's own policy: a default says what its field takes."""

    patience_s: float = math.inf
    longest_s: float | None = None


def test_a_default_that_is_infinite_is_a_field_that_takes_it() -> None:
    assert construct(Patient, {"patience_s": math.inf}, "policy").patience_s == math.inf
    assert (
        filled(Patient, defaults(Patient), {"patience_s": math.inf, "longest_s": 2}, "policy")["patience_s"] == math.inf
    )
    for make in (
        lambda bad: construct(Patient, bad, "policy"),
        lambda bad: filled(Patient, defaults(Patient), bad, "policy"),
    ):
        with pytest.raises(ConfigError, match="policy.longest_s must be a finite number, not inf"):
            make({"longest_s": math.inf})


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (
            {"name": "shortest_predicted", "ageing": True},
            "scheduler.ageing must be a number, not True",
        ),
        ({"name": "shortest_predicted", "ageing": "5"}, "ageing must be a number, not '5'"),
        ({"name": "least_laxity", "drop_late": "no"}, "scheduler.drop_late must be true or false, not 'no'"),
        ({"name": "rotary", "blocks_per_rotation": 2.5}, "blocks_per_rotation must be a whole number, not 2.5"),
        ({"name": "power_cap", "frequencies": [0.5, "1"]}, r"frequencies\[1\] must be a number, not '1'"),
        ({"name": "rotary", "host_gb": math.inf}, "host_gb must be a finite number, not inf"),
        (
            {"name": "least_laxity", "late": True},
            "scheduler has no field 'late'; its fields are: drop_late",
        ),
    ],
)
def test_fields_of_a_queues_policy_are_typed(policy: dict[str, Any], said: str) -> None:
    engine = {"policy": policy}
    with pytest.raises(ConfigError, match=said):
        _ = PoolConfig((InstanceGroup("a40-llama-3.1-8b", engine=engine),)).build(EngineConfig())[0].limits


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda names: construct(EngineConfig, {"speculation": {"acceptance": names}}, "engine"), "acceptance"),
        (lambda names: construct(Wva, {"min_replicas": names}, "scaler"), "scaler.min_replicas"),
        (lambda names: filled(Wva, defaults(Wva), {"min_replicas": names}, "scaler"), "scaler.min_replicas"),
        (lambda names: Choice.read("slo", {"name": "per_class", "seconds": names}).build(), "slo.seconds"),
    ],
)
def test_a_number_is_no_name(make: Callable[[dict[Any, float]], Any], where: str) -> None:
    with pytest.raises(ConfigError, match=f"{where}: a name must be a text, not 1"):
        make({1: 0.5, "other": 0.6})


def test_limits_that_contradict_are_refused() -> None:
    with pytest.raises(ConfigError, match="ttft has two limits"):
        Objective.parse("ttft:500 ttft:600")
    with pytest.raises(ConfigError, match=r"min_replicas.A40 must be 0 or more, not -1"):
        Wva(min_replicas={"A40": -1})
