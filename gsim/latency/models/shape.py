"""The models that profiles are about: shapes, which decide how large weights and KV are and what a layer computes."""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from gsim.core.errors import ProfileError


@dataclass(frozen=True, slots=True)
class Experts:
    """The mixture of experts that stands where a dense decoder has its MLP."""

    count: int
    """Routed experts of one layer."""
    active: int
    """Routed experts that one token is sent to (top k)."""
    width: int
    """Intermediate size of one expert."""
    shared_width: int = 0
    """Intermediate size of the experts that every token passes, all together."""
    dense_layers: int = 0
    """Layers that have a dense MLP instead."""
    biased: bool = False
    """Router and experts have biases (gpt-oss)."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Shape of a decoder with grouped-query attention, dense or of experts, as its ``config.json`` states it.

    ``stated_parameters`` is the number of weights where only that is known; otherwise it follows from the shape.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    max_position: int
    """Longest sequence that the model was trained for (tokens)."""
    intermediate: int = 0
    """Intermediate size of the dense (gated) MLP; 0: not stated, or all layers have experts."""
    vocabulary: int = 0
    """Rows of the embedding; 0: not stated."""
    tied: bool = False
    """The head is the embedding."""
    qk_norm: bool = False
    """Queries and keys are normalised per head (Qwen3, Gemma 3)."""
    qkv_bias: bool = False
    """Query, key and value projections have biases (Qwen2, gpt-oss)."""
    output_bias: bool = False
    """So has the output projection, and every head a sink (gpt-oss)."""
    norms: int = 2
    """Norms of a layer (Gemma 2 and 3: 4)."""
    experts: Experts | None = None
    window: int = 0
    """Tokens that a layer with sliding-window attention looks back; 0: every layer sees all."""
    windowed_layers: int = 0
    """How many layers have that window."""
    stated_parameters: int = 0
    quantised: str = field(default="", compare=False)
    """How the weights of the checkpoint are quantised that its ``config.json`` belongs to; empty: they are not, or
    nobody said. What is served is a deployment's to say; it may not contradict this."""

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "max_position"):
            if getattr(self, name) < 1:
                raise ProfileError(f"model {self.name}: {name} must be at least 1, not {getattr(self, name)}")
        if self.heads % self.kv_heads:
            raise ProfileError(
                f"model {self.name}: heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})"
            )
        if self.windowed_layers > self.layers:
            raise ProfileError(
                f"model {self.name}: windowed_layers ({self.windowed_layers}) must be at most layers ({self.layers})"
            )
        experts = self.experts
        if experts is not None and (experts.active > experts.count or experts.dense_layers > self.layers):
            raise ProfileError(
                f"model {self.name}: experts.active ({experts.active}) must be at most count ({experts.count}), "
                f"experts.dense_layers ({experts.dense_layers}) at most layers ({self.layers})"
            )
        if not self.stated_parameters and not (self.vocabulary and (self.intermediate or self.experts)):
            raise ProfileError(
                f"model {self.name}: state parameters, or vocabulary with intermediate (dense) or experts: the number "
                "of weights follows from one or the other"
            )

    @property
    def parameters(self) -> int:
        """Number of weights, embeddings included."""
        return self.stated_parameters or self.embedding_parameters + self.linear_parameters + self.expert_parameters

    @property
    def embedding_parameters(self) -> int:
        """Weights of the embedding and the head, which stay in 16 bit where others are quantised."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def kv_parameters(self) -> int:
        """Weights of all key and value projections."""
        return self.layers * 2 * self.hidden * self.kv_heads * self.head_dim

    @property
    def linear_parameters(self) -> int:
        """Weights of attention, dense MLPs, shared experts, routers and norms."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads) + self.norms * self.hidden
        attention += 2 * self.head_dim * self.qk_norm + self.head_dim * (self.heads + 2 * self.kv_heads) * self.qkv_bias
        attention += (self.hidden + self.heads) * self.output_bias
        experts = self.experts
        dense_layers = self.layers if experts is None else experts.dense_layers
        dense = dense_layers * 3 * self.hidden * self.intermediate
        if experts is not None:
            router = self.hidden * experts.count + experts.count * experts.biased
            # A shared expert of Qwen2's MoE has a gate of its own, one row.
            shared = (3 * self.hidden * experts.shared_width + self.hidden) if experts.shared_width else 0
            dense += (self.layers - dense_layers) * (router + shared)
        return self.layers * attention + dense + self.hidden

    @property
    def expert_parameters(self) -> int:
        """Weights of all routed experts; 0 for a dense model."""
        if self.experts is None:
            return 0
        one = 3 * self.hidden * self.experts.width
        one += (2 * self.experts.width + self.hidden) * self.experts.biased
        return (self.layers - self.experts.dense_layers) * self.experts.count * one


def shape_fields(shape: ModelShape) -> dict[str, Any]:
    """The fields that a profile's ``model`` holds to state this shape: what differs from its default."""
    known = {f.name: f.default for f in fields(shape)}
    values = {k: v for k, v in asdict(shape).items() if known[k] is MISSING or getattr(shape, k) != known[k]}
    values.pop("quantised", None)  # a profile's deployment says what its weights are
    if "stated_parameters" in values:
        values["parameters"] = values.pop("stated_parameters")
    if shape.experts is not None:
        values["experts"] = {k: v for k, v in values["experts"].items() if v}
    return values


#: What publishers add to a name without changing the shape.
_SUFFIXES = ("-hf", "-instruct", "-it", "-chat", "-base", "-fp8", "-nvfp4", "-dynamic", "-bf16", "-v0.1")


def catalogue_key(name: str) -> str:
    """The catalogue's key for a published name: without owner, and without what does not change the shape."""
    key = name.rpartition("/")[2].lower().removeprefix("meta-").replace("llama-3-", "llama-3.1-")
    key = key.replace("-instruct-2507", "-2507").replace("-thinking-2507", "-2507")
    shorter = True
    while shorter:
        shorter = False
        for suffix in _SUFFIXES:
            if key.endswith(suffix):
                key, shorter = key.removesuffix(suffix), True
    return key
