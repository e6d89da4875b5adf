"""What cards that share layers say to each other: all-reduces, as a time per message and a time per byte."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsim.core.errors import ProfileError

Floats = NDArray[np.float64]


#: Tokens from which a message counts as large: what a pure decode reaches ends about here.
LARGE_FROM = 256


@dataclass(frozen=True)
class Communication:
    """All-reduces of one iteration: the alpha-beta model of a collective.

    Megatron's tensor parallelism all-reduces the hidden state of every token twice a layer (after attention and after
    the MLP) and once after the embedding.
    """

    messages: int = 0
    """All-reduces in an iteration."""
    message_s: float = 0.0
    """What one takes however small it is."""
    token_s: float = 0.0
    """What one takes more for every token whose hidden state is in it ..."""
    large_token_s: float = -1.0
    """... and for every token beyond ``LARGE_FROM``: large messages use the bus better; below 0: the same."""

    def __post_init__(self) -> None:
        names = ("message_s", "token_s", "large_token_s") if self.large_token_s >= 0.0 else ("message_s", "token_s")
        for name in names:
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ProfileError(f"all-reduce: {name} must be a finite number, 0 or more, not {value}")

    def at(self, tokens: Floats) -> Floats:
        """Seconds of an iteration by its tokens."""
        beyond = self.large_token_s if self.large_token_s >= 0.0 else self.token_s
        small, large = np.minimum(tokens, LARGE_FROM), np.maximum(tokens - LARGE_FROM, 0.0)
        time_s: Floats = self.messages * (self.message_s + self.token_s * small + beyond * large)
        return np.where(tokens > 0, time_s, 0.0)


NO_COMMUNICATION = Communication()


def all_reduces(layers: int, tp: int) -> int:
    """How many all-reduces an iteration has."""
    return 2 * layers + 1 if tp > 1 else 0
