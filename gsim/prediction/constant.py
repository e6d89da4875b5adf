"""One number for every request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gsim.core import ConfigError, Request, register
from gsim.core.view import Floats
from gsim.prediction.options import MOST_TOKENS
from gsim.prediction.overrun import overrun, overrun_all


@register("predictor", "constant")
@dataclass
class Constant:
    """The same length for every request: what remains of a policy when prediction carries no information."""

    tokens: float = 256.0
    """The predicted total."""

    def __post_init__(self) -> None:
        if not 1 <= self.tokens <= MOST_TOKENS:
            raise ConfigError(f"predictor.tokens must be from 1 to {MOST_TOKENS}, not {self.tokens}")

    def predict(self, request: Request, generated_tokens: int = 0) -> float:
        """The constant, or a quarter beyond what was generated once that is more."""
        return overrun(self.tokens, generated_tokens)

    def observe(self, request: Request, output_tokens: int) -> None:
        """Nothing to learn."""

    def repredict(self, requests: Sequence[Request], generated_tokens: np.ndarray, first: np.ndarray) -> Floats:
        """The same for many."""
        return overrun_all(np.asarray(first, dtype=np.float64), generated_tokens)
