"""The models that profiles are about: the shapes that decide how large weights and KV are."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from gsim.core.errors import ProfileError


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Shape of a dense decoder with grouped-query attention, as its published ``config.json`` states it."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    parameters: int
    """Number of weights, embeddings included."""
    max_position: int
    """Longest sequence that the model was trained for (tokens)."""
    bytes_per_value: int = 2
    """Of weights and KV: 2 for fp16 and bf16."""

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that one token leaves behind, over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.bytes_per_value

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return self.parameters * self.bytes_per_value


#: From the ``config.json`` that is published with each model.
CATALOGUE: dict[str, ModelShape] = {
    shape.name: shape
    for shape in (
        ModelShape("llama-3.1-8b", 32, 4096, 32, 8, 128, 8_030_261_248, 131_072),
        ModelShape("llama-2-7b", 32, 4096, 32, 32, 128, 6_738_415_616, 4_096),
        ModelShape("llama-2-13b", 40, 5120, 40, 40, 128, 13_015_864_320, 4_096),
        ModelShape("llama-3.1-70b", 80, 8192, 64, 8, 128, 70_553_706_496, 131_072),
        ModelShape("qwen2.5-7b", 28, 3584, 28, 4, 128, 7_615_616_512, 32_768),
    )
}


def model_shape(name: str) -> ModelShape:
    """The catalogue's shape for a name such as ``llama-3.1-8b`` or ``meta-llama/Llama-3.1-8B-Instruct``.

    Raises ``ProfileError`` that lists what there is.
    """
    key = name.rpartition("/")[2].lower().removesuffix("-instruct").removesuffix("-hf").removeprefix("meta-")
    if key not in CATALOGUE:
        near = difflib.get_close_matches(key, CATALOGUE, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ProfileError(f"unknown model '{name}'{hint}; the catalogue has: {', '.join(sorted(CATALOGUE))}")
    return CATALOGUE[key]
