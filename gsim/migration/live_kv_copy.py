"""Live multi-stage KV copy, as Llumnix does it (OSDI 2024, and its published code)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gsim.core import ConfigError, register
from gsim.core.view import Floats
from gsim.migration.mechanism import Quote, Step, check_costs, check_fallback


@register("mechanism", "live_kv_copy")
@dataclass(frozen=True)
class LiveKvCopy:
    """Copy the KV cache in stages while the request decodes on; only the last, small stage stops it.

    Each stage copies the complete blocks that have appeared since the one before. The defaults are Llumnix's own.
    """

    last_stage_blocks: int = 16
    """With at most this many blocks left, stop the request and copy them."""
    max_stages: int = 3
    """A move that is not over after this many stages is given up (the request stays)."""
    control_s: float = 0.002
    """Handshake of each stage."""
    block_s: float = 0.0
    """Cost of each KV block (descriptors)."""
    fallback: str = "token_ids"
    """Between unlike KV layouts: ``token_ids`` or ``refuse``."""

    carries_kv: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_costs("live_kv_copy", control_s=self.control_s, block_s=self.block_s)
        check_fallback("live_kv_copy", self.fallback)
        if self.last_stage_blocks < 1:
            raise ConfigError(f"mechanism.last_stage_blocks must be 1 or more, not {self.last_stage_blocks}")
        if self.max_stages < 1:
            raise ConfigError(f"mechanism.max_stages must be 1 or more, not {self.max_stages}")

    def state_bytes(self, tokens: int, kv_bytes_per_token: float) -> float:
        """The KV cache of these tokens."""
        return tokens * kv_bytes_per_token

    def overhead_s(self, blocks: int) -> float:
        """Control messages and descriptors of one stage."""
        return self.control_s + blocks * self.block_s

    def step(self, stage: int, uncopied_blocks: int) -> Step:
        """Stop when little is left; else copy on, at most ``max_stages`` stages in all."""
        if stage >= self.max_stages:
            return Step.GIVE_UP
        return Step.LAST if uncopied_blocks <= self.last_stage_blocks else Step.COPY

    def estimate_s(self, quote: Quote) -> Floats:
        """The last stage alone, and the target's queue: what grew during the stage before is all that is left.

        ``inf`` where the state grows too fast for the link: the move would be given up.
        """
        left = np.full(len(quote.rate_bytes_per_s), float(quote.tokens))
        stopped_s = np.full(len(left), np.inf)
        open_ = np.ones(len(left), dtype=np.bool_)
        for _ in range(self.max_stages):
            blocks = np.ceil(left / quote.block_size)
            stage_s = (
                self.control_s
                + blocks * self.block_s
                + quote.latency_s
                + left * quote.kv_bytes_per_token / quote.rate_bytes_per_s
            )
            last = open_ & (blocks <= self.last_stage_blocks)
            stopped_s[last] = stage_s[last]
            open_ &= ~last
            if not open_.any():
                break
            # What is not a complete block stays behind for the next stage.
            grown = stage_s / max(quote.source_tpot_s, 1e-9)
            left = np.where(open_, grown + left % quote.block_size, left)
        return stopped_s + quote.queue_s
