"""Block names from token ids: how recorded schedules name what they share."""

from __future__ import annotations

from gsim.engine.sequence import BlockNames

GENERATED_TOKEN = 7


class TokenNames(BlockNames):
    """Block names from the tokens themselves, as vLLM hashes them."""

    __slots__ = ("_tokens",)

    def __init__(self, tokens: list[int], block_size: int) -> None:
        super().__init__((), -1, -2, block_size)
        self._tokens = tokens

    def first(self, blocks: int) -> list[int]:
        """The names of at least the first ``blocks`` blocks."""
        names = self._names
        size = self._block_size
        self._tokens += [GENERATED_TOKEN] * (blocks * size - len(self._tokens))
        while len(names) < blocks:
            start = len(names) * size
            names.append(hash((names[-1] if names else 0, *self._tokens[start : start + size])))
        return names
