"""A model on several cards: weights per card, KV, layout, price, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gsim.core import ProfileError
from gsim.latency import Deployment, constant_profile, load_profile, model_shape
from gsim.latency.cards import CARDS, card
from gsim.latency.models.catalogue import CATALOGUE


def deploy(model: str = "llama-3.1-70b", **fields: Any) -> Deployment:
    return Deployment(model_shape(model), fields.pop("card", "H100-80G"), **fields)


def test_one_card_holds_all_weights_and_several_share_them() -> None:
    assert deploy("llama-3.1-8b").weight_bytes_per_card == 2 * 8_030_261_248
    assert deploy(tp=4).weight_bytes_per_card == 2 * 70_553_706_496 / 4
    assert deploy(tp=4).cards == 4


def test_embeddings_stay_in_16_bit() -> None:
    model = model_shape("llama-3.1-70b")
    embeddings = 2 * 128256 * 8192
    assert deploy(tp=2, weight_dtype="fp8").weight_bytes_per_card == (model.parameters + embeddings) / 2
    experts = deploy("gpt-oss-20b", weight_dtype="bf16", moe_dtype="mxfp4")
    # 13.8 GB is what the published checkpoint weighs.
    assert experts.weight_bytes_per_card == pytest.approx(13.8e9, rel=0.01)


def test_kv_heads_are_held_several_times_where_cards_outnumber_them() -> None:
    four, eight = (deploy("qwen3-235b-a22b", tp=tp, weight_dtype="fp8") for tp in (4, 8))
    assert (four.kv_heads_per_card, eight.kv_heads_per_card) == (1, 1)
    assert eight.kv_bytes_per_token == 2 * four.kv_bytes_per_token == 2 * 8 * 94 * 128 * 2
    copies = CATALOGUE["qwen3-235b-a22b"].kv_parameters
    assert 8 * eight.weight_bytes_per_card == pytest.approx(4 * four.weight_bytes_per_card + copies)


@given(st.sampled_from(sorted(CATALOGUE)), st.sampled_from([1, 2, 4, 8]))
def test_more_cards_never_hold_fewer_tokens(name: str, tp: int) -> None:
    model = CATALOGUE[name]
    if model.heads % (2 * tp) or (model.kv_heads % (2 * tp) and 2 * tp % model.kv_heads):
        return
    few, more = (Deployment(model, "H200-141G", tp=n) for n in (tp, 2 * tp))
    assert more.weight_bytes_per_card < few.weight_bytes_per_card
    assert more.kv_tokens(141.0) > few.kv_tokens(141.0)
    assert few.kv_tokens(141.0) < few.most_kv_tokens(141.0)


def test_the_layout_tells_unlike_caches_apart() -> None:
    layouts = {deploy(tp=tp, kv_dtype=kv).layout for tp in (1, 2) for kv in ("", "fp8")}
    assert len(layouts) == 4
    assert deploy(weight_dtype="fp8").layout == deploy(weight_dtype="bf16").layout == "llama-3.1-70b/bf16/tp1"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"pp": 2},
            "pp is 2: pipeline parallelism has not been validated here; spread the model by",
        ),
        ({"ep": 4}, "ep is 4: the all-to-all of expert parallelism has not been validated here"),
        ({"tp": 0}, "tp must be at least 1, not 0"),
        ({"tp": 3}, "tp 3 does not divide 64 heads and 8 KV heads"),
        ({"weight_dtype": "fp6"}, "weight_dtype must be one of fp32, fp16, bf16, fp8, fp8_block, int4, mxfp4, nvfp4"),
        ({"kv_dtype": "int4"}, "kv_dtype must be one of fp32, fp16, bf16, fp8, not 'int4'"),
    ],
)
def test_what_is_not_validated_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        deploy(**fields)


def test_quantised_weights_need_the_vocabulary() -> None:
    bare = dataclasses.replace(model_shape("llama-3.1-8b"), vocabulary=0, stated_parameters=8_030_261_248)
    with pytest.raises(ProfileError, match="weights in fp8 need the model's vocabulary: embeddings stay in 16 bit"):
        Deployment(bare, "H100-80G", weight_dtype="fp8")


def test_cards_have_names() -> None:
    assert card("h100") is card("H100-SXM-80G") is CARDS["H100-80G"]
    with pytest.raises(ProfileError, match=r"card 'H1OO' is not known.*; there are: V100-32G, T4"):
        card("H1OO")


def write(folder: Path, **change: Any) -> Path:
    """A profile of constant iterations for a 70B model on four cards."""
    extent = {"sequences": 64, "batch_tokens": 4096, "context_tokens": 8192}
    words = ("source", "basis", "engine_version", "date", "licence", "uncertainty")
    values = {
        "gpu": "H800-80G",
        "model": "llama-3.1-70b",
        "deployment": {"tp": 4, "weight_dtype": "fp8"},
        "memory_gb": 80,
        "engine": {"max_num_batched_tokens": 4096, "max_num_seqs": 64},
        "price": {"usd_per_hour": 2.5, "source": "test"},
        "latency": {"kind": "constant", "iteration_ms": 10},
        "domain": {"measured": extent},
        "provenance": dict.fromkeys(words, "test"),
    }
    values.update(change)
    file = folder / "large.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def test_a_profile_states_its_deployment(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path))
    deployment = Deployment(model_shape("llama-3.1-70b"), "H800-80G", tp=4, weight_dtype="fp8")
    assert profile.deployment == deployment
    assert profile.price_per_hour == 10.0
    assert profile.layout == deployment.layout
    assert profile.kv_tokens == deployment.kv_tokens(80.0)
    less = load_profile(write(tmp_path, memory_utilisation=0.8, reserved_gb=5))
    assert less.kv_tokens == deployment.kv_tokens(80.0, 0.8, 5.0) < profile.kv_tokens


def test_a_profile_may_state_its_models_shape(tmp_path: Path) -> None:
    shape = {"name": "own", "layers": 4, "hidden": 64, "heads": 8, "kv_heads": 2, "head_dim": 8, "max_position": 4096}
    sizes = {"vocabulary": 1000, "experts": {"count": 8, "active": 2, "width": 32}}
    profile = load_profile(write(tmp_path, model={**shape, **sizes}, deployment={"tp": 2}))
    assert profile.deployment.kv_bytes_per_token == 2 * 4 * 2 * 8 * 2
    assert profile.model.expert_parameters == 4 * 8 * 3 * 64 * 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"deployment": {"tp": 1}},
            "memory_gb: llama-3.1-70b on H800-80G does not fit: its weights take 141.1 GB",
        ),
        ({"deployment": {"pp": 2}}, "large.yaml: deployment: llama-3.1-70b on H800-80G: pp is 2"),
        (
            {"deployment": {"tensor": 2}},
            "deployment.tensor: is not a field of a profile here; the fields are: .*pp, tp, weight_dtype",
        ),
        ({"deployment": {"tp": 4, "weight_dtype": "q8"}}, "deployment.weight_dtype: must be one of fp32"),
        ({"memory_utilisation": 1.5}, "memory_utilisation: must be a share of the memory, at most 1, not 1.5"),
        ({"kv_tokens": 10**9}, "kv_tokens: 1000000000 tokens of KV do not fit beside the weights"),
        ({"model": {"name": "x"}}, "model.layers: is missing"),
        ({"model": "nothing"}, "large.yaml: model: unknown model 'nothing'"),
    ],
)
def test_a_profile_that_cannot_be_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=message):
        load_profile(write(tmp_path, **change))


def test_routers_see_the_number_of_cards() -> None:
    from gsim.cluster.scenario import InstanceSpec
    from gsim.cluster.simulation import static_view

    large = constant_profile(0.01, deployment=deploy(tp=4))
    static = static_view((InstanceSpec("a", constant_profile(0.01)), InstanceSpec("b", large)))
    assert static.cards.tolist() == [1, 4]
    assert len(set(static.layout)) == 2
