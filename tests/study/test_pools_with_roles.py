"""Pools with roles as configuration: what is made of them, and which studies refuse them."""

from __future__ import annotations

from typing import Any

import pytest

from gsim.core import ConfigError
from gsim.engine import EngineConfig
from gsim.run.options import RUN_GROUPS
from gsim.run.planning import servers_of
from gsim.run.pool import POOLS
from gsim.run.settings import Settings
from gsim.study.questions.cheapest_pool import CheapestPool


def settings(**groups: Any) -> Settings:
    defaults = {group: {"name": name} for group, name in RUN_GROUPS.items()}
    return Settings.read({**defaults, **groups})


def on(*instances: dict[str, Any], **fields: Any) -> Settings:
    return settings(pool={"name": "split", "instances": list(instances), **fields})


CARD = "a800-llama-3.1-8b"
SPLIT = ({"profile": CARD, "role": "prefill"}, {"profile": CARD, "count": 3, "role": "decode"})


def test_a_role_is_part_of_an_instances_name():
    instances = on({"profile": CARD, "role": "prefill"}, {"profile": CARD, "count": 2, "role": "decode"}, copies=2)
    names = [spec.name for spec in instances.scenario().instances]
    assert names == [
        f"A800-80G-{name}" for name in ("prefill-0", "decode-0", "decode-1", "prefill-1", "decode-2", "decode-3")
    ]
    shipped = POOLS["split"][1].build(EngineConfig())
    assert [spec.role for spec in shipped] == ["prefill"] + ["decode"] * 3


def test_the_choice_of_a_handover_changes_a_run_and_its_fields_are_checked():
    split = on(*SPLIT)
    basis = [split.replace(handover={"name": name}).basis() for name in ("least_kv", "least_tpot")]
    assert basis[0] != basis[1]
    with pytest.raises(ConfigError, match="unknown handover 'most_kv'; there are: dynamo, least_kv, least_tpot"):
        split.replace(handover={"name": "most_kv"})
    with pytest.raises(ConfigError, match="handover.overlap: .* say when=arrival"):
        split.replace(handover={"name": "least_kv", "overlap": True}).scenario()


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        ([{"profile": CARD, "role": "prefil"}], f"'{CARD}': role 'prefil' is unknown; allowed: both, prefill, decode"),
        ([{"profile": CARD, "role": "prefill"}], "all have role prefill .*add an instance with role decode or both"),
        (
            [
                {"profile": "h800-llama-3.1-70b-tp4", "role": "prefill"},
                {"profile": "a40-llama-3.1-70b-tp8", "role": "decode"},
            ],
            r"one KV layout, not 2 \(.*.*-prefill: llama-3.1-70b/bf16/tp4.*\)",
        ),
    ],
)
def test_what_no_pool_can_be_is_refused(instances, message):
    with pytest.raises(ConfigError, match=message):
        on(*instances).scenario()


def test_a_pool_with_roles_is_not_scaled():
    with pytest.raises(ConfigError, match="a pool with roles has a fixed size"):
        on({"profile": CARD, "role": "prefill"}, {"profile": CARD, "count": 2, "up": 1, "role": "decode"}).scenario()


def test_bound_plan_and_the_cheapest_pool_refuse_roles():
    split = on(*SPLIT)
    with pytest.raises(
        ConfigError, match="pool.instances has roles: the upper bound and the plan know requests that one"
    ):
        servers_of(split.scenario())

    class Asked:
        settings = split

    with pytest.raises(ConfigError, match="cheapest_pool tries mixtures of `profiles` that serve whole requests"):
        CheapestPool().run(Asked())
