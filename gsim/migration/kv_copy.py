"""Stop and copy the KV cache: the reactive transfer of prefill-decode connectors (NIXL, Mooncake)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gsim.core import register
from gsim.core.view import Floats
from gsim.migration.mechanism import Quote, Step, blocks_of, check_costs, check_fallback


@register("mechanism", "kv_copy")
@dataclass(frozen=True)
class KvCopy:
    """Stop the request, copy its KV cache over the link, resume it at the target."""

    control_s: float = 0.002
    """Handshake and hand-over. 0.4 ms (vLLM) and 1.8 ms (SGLang) fit Mooncake's tables; a stock NIXL connector was
    reported at about 0.15 s."""
    block_s: float = 0.0
    """Cost of each KV block (descriptors). Mooncake's tables fit with none; reports of a stock NIXL connector at 16
    and at 64 tokens a block differ by about 0.25 ms a block."""
    fallback: str = "token_ids"
    """Between unlike KV layouts: ``token_ids`` or ``refuse``."""

    carries_kv: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_costs("kv_copy", control_s=self.control_s, block_s=self.block_s)
        check_fallback("kv_copy", self.fallback)

    def state_bytes(self, tokens: int, kv_bytes_per_token: float) -> float:
        """The KV cache of the context."""
        return tokens * kv_bytes_per_token

    def overhead_s(self, blocks: int) -> float:
        """Control messages and descriptors."""
        return self.control_s + blocks * self.block_s

    def step(self, stage: int, uncopied_blocks: int) -> Step:
        """Stops at once."""
        return Step.LAST

    def estimate_s(self, quote: Quote) -> Floats:
        """Overhead, the whole KV cache on the wire, and the target's queue."""
        copied_bytes = self.state_bytes(quote.tokens, quote.kv_bytes_per_token)
        overhead_s = self.overhead_s(blocks_of(quote.tokens, quote.block_size)) + quote.latency_s
        return overhead_s + copied_bytes / quote.rate_bytes_per_s + quote.queue_s
