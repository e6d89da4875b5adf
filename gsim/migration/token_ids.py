"""Replay by token ids: GoodServe's and Dynamo's way. Works between any two instances of one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gsim.core import register
from gsim.core.view import Floats
from gsim.migration.mechanism import TOKEN_ID_BYTES, Quote, Step, check_costs


@register("mechanism", "token_ids")
@dataclass(frozen=True)
class TokenIds:
    """Abort at the source, resubmit prompt and generated tokens at the target, which prefills them again.

    Queueing, prefill and prefix hits at the target are the target engine's own; only the estimate is computed here.
    """

    control_s: float = 0.002
    """Abort and resubmit: one round trip through the gateway."""

    carries_kv: ClassVar[bool] = False
    fallback: ClassVar[str] = "token_ids"

    def __post_init__(self) -> None:
        check_costs("token_ids", control_s=self.control_s)

    def state_bytes(self, tokens: int, kv_bytes_per_token: float) -> float:
        """Four bytes a token, whatever the model."""
        return float(tokens * TOKEN_ID_BYTES)

    def overhead_s(self, blocks: int) -> float:
        """The round trip."""
        return self.control_s

    def step(self, stage: int, uncopied_blocks: int) -> Step:
        """Stops at once: there is nothing to copy beforehand."""
        return Step.LAST

    def estimate_s(self, quote: Quote) -> Floats:
        """Round trip, token ids on the wire, the target's queue, and the prefill of what it has not cached."""
        wire_s = quote.latency_s + self.state_bytes(quote.tokens, quote.kv_bytes_per_token) / quote.rate_bytes_per_s
        prefill_s = (quote.tokens - quote.cached_tokens) * quote.prefill_s_per_token
        return self.control_s + wire_s + quote.queue_s + prefill_s
