"""What one iteration of an engine computes: the question that a latency model answers."""

from __future__ import annotations

from typing import NamedTuple


class Chunk(NamedTuple):
    """A piece of one prompt that is prefilled in one iteration (2 tokens or more)."""

    tokens: int
    context_tokens: int
    """Tokens of the same sequence whose KV exists already."""


class Batch(NamedTuple):
    """The work of one iteration.

    A sequence that computes exactly one token counts as a decode, as the attention kernels see it. The context of a
    decode is the number of its tokens whose KV exists before the iteration.
    """

    chunks: tuple[Chunk, ...]
    decodes: int
    decode_context_tokens: int
    """Sum of the decodes' contexts."""
    max_decode_context_tokens: int = 0
    """The longest of them: a batch of unlike contexts takes longer than its mean says."""

    @property
    def tokens(self) -> int:
        """Tokens that go through the dense layers."""
        return self.decodes + sum(chunk.tokens for chunk in self.chunks)

    @property
    def sequences(self) -> int:
        """Sequences in the batch (each passes the head and the sampler once)."""
        return self.decodes + len(self.chunks)
