"""What an engine may do at once: options as a user writes them, and limits as the engine runs with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gsim.core import ConfigError


class Card(Protocol):
    """What the engine must know of the profile it runs on."""

    @property
    def name(self) -> str:
        """The profile's name, for messages."""
        ...

    @property
    def kv_tokens(self) -> int:
        """Tokens whose KV fits."""
        ...

    @property
    def max_num_batched_tokens(self) -> int:
        """Default of this class of GPU."""
        ...

    @property
    def max_num_seqs(self) -> int:
        """Default of this class of GPU."""
        ...

    @property
    def max_model_len(self) -> int:
        """Longest sequence."""
        ...


@dataclass(frozen=True)
class EngineLimits:
    """The limits an engine runs with (all concrete, validated)."""

    max_num_batched_tokens: int = 2048
    """Tokens computed in one iteration at most (the token budget)."""
    max_num_seqs: int = 256
    """Sequences running at once at most."""
    max_model_len: int = 131_072
    """Prompt and output of one sequence together."""
    kv_blocks: int = 4096
    """Blocks of the KV cache that requests can use (vLLM's null block is not among them)."""
    block_size: int = 16
    """Tokens per KV block."""
    prefix_caching: bool = True
    """Blocks of finished prompts stay until their room is needed, and serve equal prefixes."""
    policy: str = "fcfs"
    """``fcfs``, or ``priority`` (lower value first, ties by arrival)."""
    long_prefill_token_threshold: int = 0
    """A longer prefill is cut to chunks of this many tokens; 0: only the budget cuts."""
    watermark_blocks: int = 0
    """Blocks that an admission must leave free while others run."""
    async_scheduling: bool = False
    """The next iteration is scheduled while this one computes: an iteration takes the longer of both, not their sum."""
    schedule_s: float = 0.0
    """CPU seconds to schedule one iteration (beyond what the profile's overhead holds)."""

    def __post_init__(self) -> None:
        for name in ("max_num_batched_tokens", "max_num_seqs", "max_model_len", "kv_blocks", "block_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"engine.{name} must be 1 or more, not {getattr(self, name)}")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ConfigError(
                f"engine.max_num_batched_tokens ({self.max_num_batched_tokens}) must be at least engine.max_num_seqs "
                f"({self.max_num_seqs}): vLLM refuses to start otherwise"
            )
        if self.policy not in ("fcfs", "priority"):
            raise ConfigError(f"engine.policy must be fcfs or priority, not '{self.policy}'")
        for name in ("long_prefill_token_threshold", "watermark_blocks"):
            if getattr(self, name) < 0:
                raise ConfigError(f"engine.{name} must be 0 or more, not {getattr(self, name)}")
        if not 0 <= self.schedule_s < 10:
            raise ConfigError(f"engine.schedule_s must be in [0, 10), not {self.schedule_s}")


@dataclass(frozen=True)
class EngineConfig:
    """An engine's options; what is None follows the profile, as vLLM's defaults follow the class of GPU."""

    name: str = "decode_clock"
    """``decode_clock`` (fast) or ``stepwise`` (the reference); both give the same results."""
    max_num_batched_tokens: int | None = None
    """Token budget of one iteration; None: the default of the class of GPU."""
    max_num_seqs: int | None = None
    """Sequences running at once; None: the default of the class of GPU."""
    max_model_len: int | None = None
    """Prompt and output together; None: what the profile and the KV cache allow."""
    kv_blocks: int | None = None
    """KV blocks of one instance; None: what fits the card."""
    block_size: int = 16
    """Tokens per KV block."""
    prefix_caching: bool = True
    """Reuse the KV of equal prompt prefixes (vLLM's default)."""
    policy: str = "fcfs"
    """``fcfs`` or ``priority``."""
    long_prefill_token_threshold: int = 0
    """Cut longer prefills to chunks of this many tokens; 0: no such cut."""
    watermark: float = 0.0
    """Share of the KV blocks that an admission must leave free while others run."""
    async_scheduling: bool = True
    """Schedule the next iteration while this one computes (vLLM's default)."""
    schedule_s: float = 0.0
    """CPU seconds to schedule one iteration, beyond the overhead that the profile holds."""

    def resolve(self, card: Card) -> EngineLimits:
        """The concrete limits on a card; raises ``ConfigError`` where the engine would refuse to start."""
        if self.block_size < 1:
            raise ConfigError(f"engine.block_size must be 1 or more, not {self.block_size}")
        if not 0 <= self.watermark < 1:
            raise ConfigError(f"engine.watermark must be in [0, 1), not {self.watermark}")
        kv_blocks = self.kv_blocks if self.kv_blocks is not None else card.kv_tokens // self.block_size
        if kv_blocks < 1:
            raise ConfigError(f"{card.name}: {card.kv_tokens} tokens of KV hold no block of {self.block_size} tokens")
        budget = self.max_num_batched_tokens
        sequences = self.max_num_seqs
        if sequences is None:
            # A smaller budget given by hand must not be refused because of a default.
            sequences = card.max_num_seqs if budget is None else min(card.max_num_seqs, budget)
        if budget is None:
            budget = max(card.max_num_batched_tokens, sequences)
        kv_capacity = kv_blocks * self.block_size
        if self.max_model_len is not None and self.max_model_len > kv_capacity:
            raise ConfigError(
                f"engine.max_model_len ({self.max_model_len}) must be at most what the KV cache holds ({kv_capacity} "
                f"tokens on {card.name}): vLLM refuses to start otherwise"
            )
        return EngineLimits(
            max_num_batched_tokens=budget,
            max_num_seqs=sequences,
            max_model_len=self.max_model_len or min(card.max_model_len, kv_capacity),
            kv_blocks=kv_blocks,
            block_size=self.block_size,
            prefix_caching=self.prefix_caching,
            policy=self.policy,
            long_prefill_token_threshold=self.long_prefill_token_threshold,
            watermark_blocks=int(self.watermark * kv_blocks),
            async_scheduling=self.async_scheduling,
            schedule_s=self.schedule_s,
        )
