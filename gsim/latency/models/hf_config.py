"""A model's shape from the ``config.json`` that Hugging Face hosts with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gsim.core.errors import ProfileError
from gsim.core.files import check_regular
from gsim.core.json_text import parsed_json
from gsim.latency.models.shape import Experts, ModelShape

#: Architectures whose layers are what gsim knows: attention with grouped queries, a gated MLP or experts.
DENSE = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "granite")
MOE = ("mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss")
_NORMALISED = ("qwen3", "qwen3_moe", "gemma3_text")
_TIED_BY_DEFAULT = ("gemma", "gemma2", "gemma3_text")
#: Fields that only a model with experts has.
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
#: Methods that quantise to 4 bits unless they say otherwise.
_FOUR_BIT = ("awq", "gptq", "awq_marlin", "gptq_marlin")
_NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "max_position_embeddings")


class _Config:
    """One file's fields, each error with its name."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path = path
        self.values = values

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number of 0 or more; null counts as missing."""
        value = self.values.get(key)
        if value is None:
            if default is not None:
                return default
            raise ProfileError(f"{self.path}: {key} is missing; an architecture needs: {', '.join(_NEEDED)}")
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ProfileError(f"{self.path}: {key} must be a whole number of 0 or more, not {value!r}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false; null counts as missing."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ProfileError(f"{self.path}: {key} must be true or false, not {value!r}")
        return value

    def by_layer(self, key: str, kind: type[str] | type[int]) -> list[Any]:
        """A list of texts or of whole numbers; nothing where there is none."""
        value = self.values.get(key)
        if value is None:
            return []
        if not (isinstance(value, list) and all(type(one) is kind for one in value)):
            what = "texts" if kind is str else "whole numbers"
            raise ProfileError(f"{self.path}: {key} must be a list of {what}, not {str(value)[:80]}")
        return value

    def text(self, key: str) -> str:
        """Text, or nothing where there is none."""
        value = self.values.get(key)
        return value if isinstance(value, str) else ""


def shape_of_config(path: Path, name: str = "") -> ModelShape:
    """The shape that a ``config.json`` states; raises ``ProfileError`` that names the file, the field and the value.

    ``name`` is what the model is called; otherwise it is the file's own ``_name_or_path``, or its folder's name.
    """
    try:
        check_regular(path)
        values = parsed_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ProfileError(f"{path}: not JSON ({error})") from None
    if not isinstance(values, dict):
        raise ProfileError(f"{path}: must hold an object, not {type(values).__name__}")
    # A model that also sees images keeps its decoder one level down.
    nested = values.get("text_config")
    if isinstance(nested, dict) and "hidden_size" not in values:
        values = {**values, **nested}
    config = _Config(path, values)
    name = name or config.text("_name_or_path").rpartition("/")[2].lower() or path.resolve().parent.name.lower()
    kind = config.text("model_type")
    _refuse(config, kind)
    heads, hidden = config.integer("num_attention_heads"), config.integer("hidden_size")
    layers = config.integer("num_hidden_layers")
    window, windowed = _window(config, kind, layers)
    biased = config.flag("attention_bias", False)
    gpt_oss = kind == "gpt_oss"
    experts = _experts(config, kind, layers) if kind in MOE else None
    return ModelShape(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=config.integer("num_key_value_heads", heads),
        head_dim=config.integer("head_dim", hidden // max(heads, 1)),
        max_position=config.integer("max_position_embeddings"),
        intermediate=config.integer("intermediate_size", 0 if kind in MOE else None)
        if experts is None or experts.dense_layers
        else 0,
        vocabulary=config.integer("vocab_size"),
        tied=config.flag("tie_word_embeddings", kind in _TIED_BY_DEFAULT),
        qk_norm=kind in _NORMALISED,
        qkv_bias=biased or kind in ("qwen2", "qwen2_moe"),
        output_bias=gpt_oss or (biased and kind == "llama"),
        norms=4 if kind in ("gemma2", "gemma3_text") else 2,
        experts=experts,
        window=window,
        windowed_layers=windowed,
        quantised=quantised(path, values),
    )


def quantised(path: Path, values: Mapping[str, Any]) -> str:
    """The dtype (as deployments call it) in which a checkpoint's weights are quantised, or else the method's name;
    empty where they are not. Raises ``ProfileError`` for a ``quantization_config`` that does not say how."""
    found = values.get("quantization_config")
    if found is None:
        return ""
    method = found.get("quant_method") if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or not isinstance(method, str) or not method:
        raise ProfileError(f"{path}: quantization_config must have a quant_method, not {str(found)[:80]}")
    if method == "fp8":
        return "fp8_block" if found.get("weight_block_size") else "fp8"
    if method in _FOUR_BIT and found.get("bits", found.get("w_bit", 4)) == 4:
        return "int4"
    return {"fbgemm_fp8": "fp8"}.get(method, method)


def _refuse(config: _Config, kind: str) -> None:
    if not kind:
        raise ProfileError(
            f"{config.path}: model_type is missing: which layers the model has cannot be told from their sizes; there "
            f"are: {', '.join((*DENSE, *MOE))}"
        )
    if config.values.get("kv_lora_rank"):
        raise ProfileError(
            f"{config.path}: model_type '{kind}' has multi-head latent attention (kv_lora_rank "
            f"{config.values['kv_lora_rank']}), which has not been validated here; there are: "
            f"{', '.join((*DENSE, *MOE))}"
        )
    if kind not in (*DENSE, *MOE):
        raise ProfileError(
            f"{config.path}: unknown architecture: model_type '{kind}'; there are: {', '.join((*DENSE, *MOE))}. State "
            "the shape in the profile (model: {name, layers, hidden, heads, kv_heads, head_dim, max_position, "
            "intermediate, vocabulary}), if its layers are made of these"
        )
    experts = next((key for key in _EXPERTS if kind in DENSE and config.values.get(key)), None)
    if experts is not None:
        raise ProfileError(
            f"{config.path}: {experts} is {config.values[experts]}, but model_type '{kind}' has no experts; those with "
            f"experts are: {', '.join(MOE)}"
        )


def _window(config: _Config, kind: str, layers: int) -> tuple[int, int]:
    """Sliding window, and the number of layers that have it."""
    window = config.integer("sliding_window", 0)
    if not window or not config.flag("use_sliding_window", True):
        return 0, 0
    kinds = config.by_layer("layer_types", str)
    if kinds:
        if len(kinds) != layers:
            raise ProfileError(f"{config.path}: layer_types names {len(kinds)} layers, num_hidden_layers {layers}")
        return window, sum(layer == "sliding_attention" for layer in kinds)
    if kind == "gemma2":
        return window, layers // 2
    pattern = config.integer("sliding_window_pattern", 0)
    if pattern:
        return window, layers - layers // pattern
    return window, layers if kind in ("mistral", "mixtral", "phi3") else 0


def _experts(config: _Config, kind: str, layers: int) -> Experts:
    count = config.integer("num_local_experts", config.integer("num_experts", 0))
    active = config.integer("num_experts_per_tok", config.integer("experts_per_token", 0))
    width = config.integer("moe_intermediate_size", 0) or config.integer("intermediate_size")
    if not (count and active):
        raise ProfileError(
            f"{config.path}: model_type '{kind}' needs num_experts (or num_local_experts) and num_experts_per_tok"
        )
    if active > count:
        raise ProfileError(f"{config.path}: num_experts_per_tok is {active}, but there are {count} experts")
    step = config.integer("decoder_sparse_step", 1)
    if step < 1:
        raise ProfileError(f"{config.path}: decoder_sparse_step must be at least 1, not {step}")
    only = config.by_layer("mlp_only_layers", int)
    first = config.integer("first_k_dense_replace", 0)
    if first > layers:
        raise ProfileError(f"{config.path}: first_k_dense_replace is {first}, but there are {layers} layers")
    sparse = sum(i >= first and (i + 1) % step == 0 and i not in only for i in range(layers))
    return Experts(
        count=count,
        active=active,
        width=width,
        shared_width=config.integer("shared_expert_intermediate_size", config.integer("n_shared_experts", 0) * width),
        dense_layers=layers - sparse,
        biased=kind == "gpt_oss",
    )
