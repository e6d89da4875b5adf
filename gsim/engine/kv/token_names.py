"""Token ids as pieces: how recorded schedules say what prompts share."""

from __future__ import annotations

from gsim.core.request import Content


class TokenSegments:
    """One segment per block of token ids that follow the same ids: prompts share blocks as their ids do."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._segments: dict[tuple[int, tuple[int, ...]], int] = {}
        """By the segment before it (-1: none) and its own tokens."""

    def pieces(self, tokens: list[int]) -> Content:
        """The content of a text."""
        pieces: list[tuple[int, int]] = []
        segment = -1
        for start in range(0, len(tokens), self._block_size):
            block = tuple(tokens[start : start + self._block_size])
            segment = self._segments.setdefault((segment, block), len(self._segments))
            pieces.append((segment, len(block)))
        return tuple(pieces)
