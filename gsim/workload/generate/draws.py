"""Random numbers one by one, drawn in blocks: a NumPy call per number would cost a microsecond each."""

from __future__ import annotations

import numpy as np

from gsim.workload.lengths import Lengths

#: Numbers drawn at a time. A block is used from its end, so another size would deal other numbers.
_BLOCK = 2048


class Draws:
    """Independent draws from a distribution."""

    def __init__(self, lengths: Lengths, rng: np.random.Generator) -> None:
        self._lengths = lengths
        self._rng = rng
        self._left: list[float] = []

    def next(self) -> float:
        """The next draw."""
        if not self._left:
            self._left = self._lengths.sample(self._rng, _BLOCK).tolist()
        return self._left.pop()


class TokenDraws:
    """Independent draws as whole numbers, from 1 to a limit."""

    def __init__(self, lengths: Lengths, rng: np.random.Generator, most: int) -> None:
        self._lengths = lengths
        self._rng = rng
        self._most = most
        self._left: list[int] = []

    def next(self) -> int:
        """The next draw."""
        if not self._left:
            drawn = np.clip(np.rint(self._lengths.sample(self._rng, _BLOCK)), 1, self._most)
            self._left = drawn.astype(np.int64).tolist()
        return self._left.pop()
