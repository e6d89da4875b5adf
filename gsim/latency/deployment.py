"""A deployment: one model on a number of cards, and how much memory that takes.

Everything that follows from *how a model is spread over cards* stands here once: weights per card, bytes of KV per
token, KV capacity, the layout that decides between which instances KV can be copied, and the number of cards that a
price multiplies.
"""

from __future__ import annotations

from dataclasses import dataclass

from gsim.core.errors import ProfileError
from gsim.latency.models import ModelShape

#: Bytes per weight by dtype, scales included: fp8_block one fp32 scale per 128 x 128; int4 one fp16 scale and one zero
#: point per 128; mxfp4 one byte per 32; nvfp4 one byte per 16.
WEIGHT_BYTES = {
    "fp32": 4.0,
    "fp16": 2.0,
    "bf16": 2.0,
    "fp8": 1.0,
    "fp8_block": 1.0 + 4 / 128**2,
    "int4": 0.5 + 4 / 128,
    "mxfp4": 0.5 + 1 / 32,
    "nvfp4": 0.5 + 1 / 16,
}
#: Bytes per value of keys and values.
KV_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1}
#: What vLLM takes of a card's memory by default (``gpu_memory_utilization``).
MEMORY_UTILISATION = 0.9
#: Activations, CUDA graphs and context: what the reference tables of KV capacity leave free beside the weights.
RESERVED_GB = 0.44
#: NCCL's buffers on each of several cards (aiconfigurator-core 0.12.0, ``systems/*.yaml``: 342 to 392 MiB).
NCCL_GB = 0.41


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model on one or several equal cards."""

    model: ModelShape
    card: str
    tp: int = 1
    """Tensor parallelism: cards that share every layer."""
    pp: int = 1
    """Pipeline parallelism."""
    ep: int = 1
    """Expert parallelism."""
    weight_dtype: str = "fp16"
    kv_dtype: str = ""
    """Of keys and values; empty: that of the weights where those are not quantised, else bf16."""
    moe_dtype: str = ""
    """Of the experts; empty: that of the weights."""
    engine_version: str = ""

    def __post_init__(self) -> None:
        for name in ("tp", "pp", "ep"):
            if getattr(self, name) < 1:
                raise ProfileError(f"{self._what}: {name} must be at least 1, not {getattr(self, name)}")
        if self.pp > 1:
            raise ProfileError(
                f"{self._what}: pp is {self.pp}: pipeline parallelism has not been validated here; spread the model by "
                "tensor parallelism (tp)"
            )
        if self.ep > 1:
            raise ProfileError(
                f"{self._what}: ep is {self.ep}: the all-to-all of expert parallelism has not been validated here; "
                "split the experts by tensor parallelism (tp)"
            )
        model = self.model
        if model.heads % self.tp or (model.kv_heads % self.tp and self.tp % model.kv_heads):
            raise ProfileError(
                f"{self._what}: tp {self.tp} does not divide {model.heads} heads and {model.kv_heads} KV heads, as "
                "vLLM requires (more cards than KV heads hold each of them several times: tp must then be a multiple)"
            )
        for name, allowed in (("weight_dtype", WEIGHT_BYTES), ("kv_dtype", KV_BYTES), ("moe_dtype", WEIGHT_BYTES)):
            value = getattr(self, name)
            if value and value not in allowed:
                raise ProfileError(f"{self._what}: {name} must be one of {', '.join(allowed)}, not '{value}'")
        if not self.kv_dtype:
            # Quantised weights do not change the cache: vLLM's kv_cache_dtype is 16 bit unless it is told otherwise.
            wide = self.weight_dtype in ("fp32", "fp16", "bf16")
            object.__setattr__(self, "kv_dtype", self.weight_dtype if wide else "bf16")
        if not self.moe_dtype:
            object.__setattr__(self, "moe_dtype", self.weight_dtype)
        quantised = WEIGHT_BYTES[self.weight_dtype] < 2.0
        if model.quantised and not quantised and WEIGHT_BYTES[self.moe_dtype] >= 2.0:
            raise ProfileError(
                f"{self._what}: the model's config.json says that its weights are quantised ({model.quantised}), and "
                f"weight_dtype is {self.weight_dtype}: state weight_dtype (moe_dtype, where only experts are) as one "
                f"of {', '.join(name for name, size in WEIGHT_BYTES.items() if size < 2.0)}, or give the config.json "
                "of the checkpoint that is not quantised"
            )
        if quantised and not model.vocabulary:
            raise ProfileError(
                f"{self._what}: weights in {self.weight_dtype} need the model's vocabulary: embeddings stay in 16 bit"
            )

    @property
    def _what(self) -> str:
        return f"{self.model.name} on {self.card}"

    @property
    def cards(self) -> int:
        """How many cards one instance takes."""
        return self.tp * self.pp

    @property
    def kv_heads_per_card(self) -> int:
        """KV heads that each card holds: with more cards than KV heads every head is held several times."""
        return max(1, self.model.kv_heads // self.tp)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that one token leaves behind, over all layers and all cards.

        Layers with a sliding window count in full, as vLLM states its cache size.
        """
        model = self.model
        return self.tp * 2 * model.layers * self.kv_heads_per_card * model.head_dim * KV_BYTES[self.kv_dtype]

    @property
    def weight_bytes_per_card(self) -> float:
        """Bytes of weights on each card; embeddings and head stay in 16 bit, replicated KV heads are held each."""
        model = self.model
        linear_bytes = WEIGHT_BYTES[self.weight_dtype]
        if model.stated_parameters:
            weights = model.stated_parameters * linear_bytes
        else:
            wide = max(2.0, linear_bytes)
            weights = model.embedding_parameters * wide + model.linear_parameters * linear_bytes
            weights += model.expert_parameters * WEIGHT_BYTES[self.moe_dtype]
        copies = self.tp * self.kv_heads_per_card / model.kv_heads
        return (weights + (copies - 1.0) * model.kv_parameters * linear_bytes) / self.cards

    @property
    def layout(self) -> str:
        """KV can be copied only between instances whose layout is the same."""
        return f"{self.model.name}/{self.kv_dtype}/tp{self.tp}"

    def kv_tokens(
        self, memory_gb: float, utilisation: float = MEMORY_UTILISATION, reserved_gb: float | None = None
    ) -> int:
        """KV capacity in tokens of an instance whose cards have ``memory_gb`` each; below 1 where nothing fits.

        ``reserved_gb`` is what a card keeps for activations, CUDA graphs and NCCL.
        """
        if reserved_gb is None:
            reserved_gb = RESERVED_GB + (NCCL_GB if self.cards > 1 else 0.0)
        room_bytes = (utilisation * memory_gb - reserved_gb) * 1e9 - self.weight_bytes_per_card
        return int(room_bytes * self.cards // self.kv_bytes_per_token)

    def most_kv_tokens(self, memory_gb: float) -> int:
        """What would fit if all memory beside the weights were KV."""
        return int((memory_gb * 1e9 - self.weight_bytes_per_card) * self.cards // self.kv_bytes_per_token)

    def too_large(self, memory_gb: float, utilisation: float = MEMORY_UTILISATION) -> str:
        """Why it does not fit, in words."""
        return (
            f"{self._what} does not fit: its weights take {self.weight_bytes_per_card / 1e9:.1f} GB of each "
            f"card's {memory_gb:g} GB, of which {utilisation:.0%} may be used; more cards (tp) or a smaller dtype would"
        )
