"""Random numbers that belong to a request, whoever asks and in which order: common random numbers for predictors."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

_SIZE = 1 << 16
_MASK = _SIZE - 1


@dataclass
class Draws:
    """A block of draws, looked up by request or session id (it repeats every 65,536 ids)."""

    table: list[float] = field(default_factory=list)

    @classmethod
    def normal(cls, rng: np.random.Generator) -> Draws:
        """Standard normal draws."""
        return cls(rng.standard_normal(_SIZE).tolist())

    @classmethod
    def uniform(cls, rng: np.random.Generator) -> Draws:
        """Draws from [0, 1)."""
        return cls(rng.random(_SIZE).tolist())

    def of(self, key: int) -> float:
        """The draw of an id."""
        return self.table[key & _MASK]
