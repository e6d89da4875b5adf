"""The shape of a served model: from gsim's catalogue, or from the ``config.json`` that is published with it."""

from __future__ import annotations

from pathlib import Path

from gsim.core.errors import ConfigError, InputError, ProfileError
from gsim.core.json_text import parsed_json
from gsim.latency import ModelShape, model_shape
from gsim.latency.deployment import WEIGHT_BYTES
from gsim.latency.models.hf_config import quantised, shape_of_config


def served_shape(model: str, config: str | None) -> ModelShape:
    """The shape of ``model``; raises ``ConfigError`` when it is unknown and no ``config`` is given."""
    if config is not None:
        try:
            return shape_of_config(Path(config), model)
        except ProfileError as error:
            raise InputError(str(error)) from None
    try:
        return model_shape(model)
    except ProfileError as error:
        raise ConfigError(f"{error}; give it with model_config=PATH") from None


def served_dtype(config: str | None) -> str:
    """The dtype of the weights: 16 bit, unless a ``config`` says 32, or how they are quantised.

    Raises ``InputError`` where it says so in a way that is not known.
    """
    if config is None:
        return "fp16"
    values = parsed_json(Path(config).read_text(encoding="utf-8"))
    made = quantised(Path(config), values)
    if made and made not in WEIGHT_BYTES:
        raise InputError(
            f"{config}: weights are quantised by '{made}', of which it is not known how large they are; give a "
            f"quantization_config whose quant_method is one of {', '.join(WEIGHT_BYTES)}"
        )
    if made:
        return made
    return "fp32" if values.get("torch_dtype", values.get("dtype")) == "float32" else "fp16"
