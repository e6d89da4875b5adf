"""A random length: prediction without any information, but with spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gsim.core import ConfigError, Request, register
from gsim.core.view import Floats
from gsim.prediction.draws import Draws
from gsim.prediction.options import MOST_TOKENS
from gsim.prediction.overrun import overrun, overrun_all


@register("predictor", "uniform_random")
@dataclass
class UniformRandom:
    """Uniform on [low, high], the same for a request whenever it is asked about: the falsifier of every predictor."""

    low_tokens: float = 1.0
    """Smallest prediction."""
    high_tokens: float = 1000.0
    """Largest prediction."""
    _draws: Draws = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.low_tokens <= self.high_tokens <= MOST_TOKENS:
            raise ConfigError(
                f"predictor.low_tokens and high_tokens must satisfy 1 <= low <= high <= {MOST_TOKENS}, "
                f"not {self.low_tokens} and {self.high_tokens}"
            )
        self.seed(np.random.default_rng(0))

    def seed(self, rng: np.random.Generator) -> None:
        """Draw from ``rng``."""
        self._draws = Draws.uniform(rng)

    def predict(self, request: Request, generated_tokens: int = 0) -> float:
        """The request's own draw, or a quarter beyond what was generated once that is more."""
        first = self.low_tokens + (self.high_tokens - self.low_tokens) * self._draws.of(request.request_id)
        return overrun(first, generated_tokens)

    def observe(self, request: Request, output_tokens: int) -> None:
        """Nothing to learn."""

    def repredict(self, requests: Sequence[Request], generated_tokens: np.ndarray, first: np.ndarray) -> Floats:
        """The first prediction stands until it is overrun."""
        return overrun_all(np.asarray(first, dtype=np.float64), generated_tokens)
