"""The mean length of a request's task class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gsim.core import ConfigError, Request, register
from gsim.core.view import Floats
from gsim.prediction.length_window import LengthWindow
from gsim.prediction.options import MOST_TOKENS
from gsim.prediction.overrun import overrun, overrun_all
from gsim.prediction.spread import certain

#: Lengths per class that a distribution is taken of.
_REMEMBERED = 512
#: With fewer a class has a mean and no distribution.
_FEWEST = 8


@register("predictor", "class_mean")
@dataclass
class ClassMean:
    """The running mean of finished requests of the same task class.

    Starts at ``prior_tokens``, which counts as ``prior_weight`` observations. The distribution is that of the class's
    last lengths.
    """

    prior_tokens: float = 256.0
    """The mean before anything was observed."""
    prior_weight: float = 5.0
    """How many observations the prior counts for."""
    _sums: dict[str, tuple[float, float]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _windows: dict[str, LengthWindow] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.prior_tokens <= MOST_TOKENS:
            raise ConfigError(f"predictor.prior_tokens must be from 1 to {MOST_TOKENS}, not {self.prior_tokens}")
        if not 0 < self.prior_weight < float("inf"):
            raise ConfigError(f"predictor.prior_weight must be greater than 0, not {self.prior_weight}")

    def predict(self, request: Request, generated_tokens: int = 0) -> float:
        """The class's mean, or a quarter beyond what was generated once that is more."""
        total, weight = self._sums.get(request.task, (self.prior_tokens, 1.0))
        return overrun(total / weight, generated_tokens)

    def predict_quantiles(self, request: Request, generated_tokens: int = 0) -> list[float]:
        """The class's last lengths beyond what was generated; of a class with few of them the mean alone."""
        window = self._windows.get(request.task)
        known = window is not None and len(window.ordered) >= _FEWEST
        found = window.quantiles_above(generated_tokens) if window is not None and known else []
        return found or certain(self.predict(request, generated_tokens))

    def observe(self, request: Request, output_tokens: int) -> None:
        """Count a finished request in."""
        if request.task not in self._windows:
            self._windows[request.task] = LengthWindow(_REMEMBERED)
        self._windows[request.task].add(output_tokens)
        prior = (self.prior_tokens * self.prior_weight, self.prior_weight)
        total, weight = self._sums.get(request.task, prior)
        self._sums[request.task] = (total + output_tokens, weight + 1.0)

    def repredict(self, requests: Sequence[Request], generated_tokens: np.ndarray, first: np.ndarray) -> Floats:
        """The first prediction stands until it is overrun."""
        return overrun_all(np.asarray(first, dtype=np.float64), generated_tokens)
