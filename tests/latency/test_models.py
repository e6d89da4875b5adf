"""Shapes of models: the catalogue against published counts, and what a config.json says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gsim.calibration.shape import served_dtype
from gsim.core.errors import InputError, ProfileError
from gsim.latency.deployment import WEIGHT_BYTES, Deployment
from gsim.latency.models import Experts, ModelShape
from gsim.latency.models.catalogue import CATALOGUE
from gsim.latency.models.find import model_shape
from gsim.latency.models.shape import shape_fields

#: Number of parameters that the publishers' checkpoints hold (the decoder's, without a vision part).
PUBLISHED = {
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-8b": 8_190_735_360,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "gemma-2-9b": 9_241_705_984,
    "gemma-3-27b": 27_009_346_304,
    "phi-4": 14_659_507_200,
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_number_of_parameters_follows_from_the_shape(name: str) -> None:
    assert CATALOGUE[name].parameters == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("Meta-Llama-3-70B", "llama-3.1-70b"),
        ("Llama-2-7b-hf", "llama-2-7b"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b-2507"),
        ("nvidia/Llama-3.1-8B-Instruct-FP8", "llama-3.1-8b"),
        ("openai/gpt-oss-120b", "gpt-oss-120b"),
    ],
)
def test_published_names_find_their_shape(name: str, key: str) -> None:
    assert model_shape(name) is CATALOGUE[key]


LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama-3.1-8b": LLAMA,
    "qwen3-30b-a3b": {
        "model_type": "qwen3_moe",
        "hidden_size": 2048,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "sliding_window": None,
        "use_sliding_window": False,
    },
    "gpt-oss-20b": {
        "model_type": "gpt_oss",
        "hidden_size": 2880,
        "num_hidden_layers": 24,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "intermediate_size": 2880,
        "num_local_experts": 32,
        "num_experts_per_tok": 4,
        "attention_bias": True,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"] * 12,
        "vocab_size": 201088,
        "max_position_embeddings": 131072,
    },
    "gemma-3-27b": {
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 5376,
            "num_hidden_layers": 62,
            "num_attention_heads": 32,
            "num_key_value_heads": 16,
            "head_dim": 128,
            "intermediate_size": 21504,
            "sliding_window": 1024,
            "sliding_window_pattern": 6,
            "vocab_size": 262208,
            "max_position_embeddings": 131072,
        },
    },
}


def written(folder: Path, config: dict[str, Any]) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(config))
    return file


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_a_config_gives_the_catalogues_shape(name: str, tmp_path: Path) -> None:
    file = written(tmp_path, {"_name_or_path": f"somebody/{name}", **CONFIGS[name]})
    assert model_shape(str(file)) == CATALOGUE[name] == model_shape(str(tmp_path))


EXPERTS = {"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv_lora_rank": 512, "model_type": "deepseek_v3"}, "'deepseek_v3' has multi-head latent attention"),
        ({"model_type": "mamba"}, "unknown architecture: model_type 'mamba'; there are: llama, mistral"),
        ({"hidden_size": None}, "hidden_size is missing; an architecture needs: hidden_size, num_hidden_layers"),
        ({"vocab_size": "many"}, "vocab_size must be a whole number of 0 or more, not 'many'"),
        ({"num_key_value_heads": 5}, r"heads \(32\) must be a multiple of kv_heads \(5\)"),
        ({"model_type": "qwen3_moe"}, "needs num_experts"),
        ({**EXPERTS, "num_experts_per_tok": 9}, "num_experts_per_tok is 9, but there are 8 experts"),
        ({**EXPERTS, "decoder_sparse_step": 0}, "decoder_sparse_step must be at least 1, not 0"),
        ({**EXPERTS, "mlp_only_layers": 5}, "mlp_only_layers must be a list of whole numbers, not 5"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings must be true or false, not 'false'"),
        ({"attention_bias": 1}, "attention_bias must be true or false, not 1"),
        ({"sliding_window": 4096, "layer_types": ["sliding_attention"] * 99}, "layer_types names 99 layers"),
        ({"hidden_size": 10**30}, "has 31 digits; allowed: 18"),
        ({"model_type": None}, "model_type is missing: .*there are: llama, mistral"),
        ({"model_type": 5}, "model_type is missing"),
        (
            {"num_experts": 8},
            "num_experts is 8, but model_type 'llama' has no experts; those with experts are: mixtral",
        ),
        ({"num_local_experts": 8, "model_type": "mistral"}, "model_type 'mistral' has no experts"),
        ({**EXPERTS, "first_k_dense_replace": 33}, "first_k_dense_replace is 33, but there are 32 layers"),
        ({**EXPERTS, "first_k_dense_replace": "3"}, "first_k_dense_replace must be a whole number of 0 or more"),
        ({"quantization_config": "fp8"}, "quantization_config must have a quant_method, not fp8"),
        ({"quantization_config": {"bits": 4}}, "quantization_config must have a quant_method"),
    ],
)
def test_a_config_that_is_not_known_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=message):
        model_shape(str(written(tmp_path, {**LLAMA, **change})))


def test_dense_and_shared_parts_of_a_model_with_experts_are_heeded(tmp_path: Path) -> None:
    def experts(**more: Any) -> Experts:
        found = model_shape(str(written(tmp_path, {**LLAMA, **EXPERTS, **more}))).experts
        assert found is not None
        return found

    assert experts().dense_layers == 0
    assert experts(first_k_dense_replace=3).dense_layers == 3
    assert experts(first_k_dense_replace=3, decoder_sparse_step=2).dense_layers == 3 + 15 - 1
    assert experts(n_shared_experts=2).shared_width == 32


@pytest.mark.parametrize(
    ("stated", "dtype"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_block"),
        ({"quant_method": "awq", "bits": 4}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "gptq"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
    ],
)
def test_a_quantised_checkpoint_is_not_served_in_16_bit(stated: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    shape = model_shape(str(written(tmp_path, {**LLAMA, "quantization_config": stated})))
    assert shape.quantised == dtype
    with pytest.raises(ProfileError, match=rf"weights are quantised \({dtype}\), and weight_dtype is fp16: state"):
        Deployment(shape, "H800-80G")
    assert Deployment(shape, "H800-80G", weight_dtype="int4").weight_bytes_per_card < 6e9
    assert "quantised" not in shape_fields(shape)
    if dtype in WEIGHT_BYTES:
        assert served_dtype(str(tmp_path / "config.json")) == dtype
    else:
        with pytest.raises(InputError, match=f"quantised by '{dtype}'"):
            served_dtype(str(tmp_path / "config.json"))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"unknown model 'lama-3.1-8b' \(did you mean llama-3.1-8b\?\)"):
        model_shape("lama-3.1-8b")
    with pytest.raises(ProfileError, match=r"model 'none.json': there is no such file"):
        model_shape("none.json")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ProfileError, match=r"config.json: not JSON"):
        model_shape(str(tmp_path))
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ProfileError, match=r"config.json: not JSON \(nested too deeply\)"):
        model_shape(str(tmp_path))


def test_a_shape_without_a_number_of_weights_is_refused() -> None:
    with pytest.raises(ProfileError, match="state parameters, or vocabulary with intermediate"):
        ModelShape("x", 2, 8, 2, 2, 4, 16)
    assert ModelShape("x", 2, 8, 2, 2, 4, 16, stated_parameters=7).parameters == 7


def test_a_shape_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ProfileError, match=r"experts.active \(5\) must be at most count \(4\)"):
        ModelShape("x", 2, 8, 2, 2, 4, 16, vocabulary=10, experts=Experts(4, 5, 6))
    with pytest.raises(ProfileError, match=r"windowed_layers \(3\) must be at most layers \(2\)"):
        ModelShape("x", 2, 8, 2, 2, 4, 16, stated_parameters=7, window=4, windowed_layers=3)


def test_experts_count_with_their_router() -> None:
    dense = ModelShape("d", 2, 8, 2, 2, 4, 16, intermediate=6, vocabulary=10)
    sparse = ModelShape("s", 2, 8, 2, 2, 4, 16, vocabulary=10, experts=Experts(4, 2, 6))
    assert sparse.parameters - dense.parameters == 2 * (3 * 3 * 8 * 6 + 8 * 4)
