"""The shape of a served model: from gsim's catalogue, or from the ``config.json`` that is published with it."""

from __future__ import annotations

import json
from pathlib import Path

from gsim.core.errors import ConfigError, InputError, ProfileError
from gsim.latency import ModelShape, model_shape


def served_shape(model: str, config: str | None) -> ModelShape:
    """The shape of ``model``; raises ``ConfigError`` when it is unknown and no ``config`` is given."""
    if config is not None:
        return _from_config(model, Path(config))
    try:
        return model_shape(model)
    except ProfileError as error:
        raise ConfigError(f"{error}; or give the model's config.json with model_config=PATH") from None


def _from_config(model: str, path: Path) -> ModelShape:
    """A dense decoder with gated MLPs and grouped-query attention (Llama, Mistral, Qwen2 ...)."""
    try:
        config = json.loads(path.read_text())
        hidden, layers, heads = (config[f] for f in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
        intermediate, vocabulary = config["intermediate_size"], config["vocab_size"]
        max_position = config["max_position_embeddings"]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]} is missing: not the config.json of a dense decoder") from None
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or hidden // heads
    attention = hidden * head_dim * (2 * heads + 2 * kv_heads)
    per_layer = attention + 3 * hidden * intermediate + 2 * hidden
    embeddings = vocabulary * hidden * (1 if config.get("tie_word_embeddings") else 2)
    wide = config.get("torch_dtype", config.get("dtype")) == "float32"
    return ModelShape(
        name=model,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        parameters=layers * per_layer + embeddings + hidden,
        max_position=max_position,
        bytes_per_value=4 if wide else 2,
    )
