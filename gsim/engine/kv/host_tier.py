"""A tier of KV in host memory at work: what both kinds of it have in common (what it is: ``host_kv.py``)."""

from __future__ import annotations

from gsim.engine.host_kv import HostKvLimits


class HostTier:
    """What is in host memory, and what has been copied. How blocks are told apart is the matter of two kinds of it."""

    def __init__(self, limits: HostKvLimits) -> None:
        self.limits = limits
        self.capacity = limits.blocks
        self.looked_up = 0
        """Tokens of the prompts that were admitted."""
        self.brought_back = 0
        """Blocks copied to the card."""
        self.fallen = 0
        """Blocks copied from the card."""
        self._settled = 0

    def iteration_s(self, compute_s: float) -> float:
        """What the iteration that was just formed takes, which computes for ``compute_s``."""
        blocks = self.brought_back - self._settled
        if blocks == 0:
            return compute_s
        self._settled = self.brought_back
        copy_s = blocks * self.limits.block_s
        return max(compute_s, copy_s) if self.limits.layerwise else compute_s + copy_s

    def counts(self, block_size: int) -> dict[str, int]:
        """What has been copied so far, by the names of result columns."""
        block_bytes = self.limits.block_bytes
        return {
            "looked_up_tokens": self.looked_up,
            "host_hit_tokens": self.brought_back * block_size,
            "host_in_bytes": self.brought_back * block_bytes,
            "host_out_bytes": self.fallen * block_bytes,
        }
