"""A small neural network that learns while requests go by."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gsim.core.view import Floats


@dataclass
class SmallNetwork:
    """One hidden layer of rectified units and a straight way past it: y = V relu(U x + u) + s x + v.

    Trained by Adam (Kingma and Ba 2015) on small batches of squared errors. Inputs and outputs should be near 1.
    """

    inputs: int
    hidden: int
    rate: float
    """Step size."""
    rng: np.random.Generator
    _weights: list[Floats] = field(init=False, repr=False, compare=False)
    _mean: list[Floats] = field(init=False, repr=False, compare=False)
    _square: list[Floats] = field(init=False, repr=False, compare=False)
    _steps: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        inner = self.rng.standard_normal((self.inputs, self.hidden)) * np.sqrt(2.0 / self.inputs)
        # The last layer begins at 0: the first answers are 0, not noise.
        self._weights = [inner, np.zeros(self.hidden), np.zeros(self.hidden), np.zeros(self.inputs), np.zeros(1)]
        self._mean = [np.zeros_like(w) for w in self._weights]
        self._square = [np.zeros_like(w) for w in self._weights]

    def at(self, x: Floats) -> Floats:
        """The answers for ``x``, a row each."""
        inner, inner_bias, outer, straight, bias = self._weights
        units = np.maximum(x @ inner + inner_bias, 0.0)
        found: Floats = units @ outer + x @ straight + bias
        return found

    def learn(self, x: Floats, y: Floats) -> None:
        """One step towards ``y`` on a batch."""
        inner, inner_bias, outer, straight, bias = self._weights
        units = np.maximum(x @ inner + inner_bias, 0.0)
        error = (units @ outer + x @ straight + bias - y) / len(y)
        back = np.outer(error, outer) * (units > 0.0)
        steps = (x.T @ back, back.sum(axis=0), units.T @ error, x.T @ error, np.array([error.sum()]))
        self._steps += 1
        shrink, shrink_square = 1.0 - 0.9**self._steps, 1.0 - 0.999**self._steps
        for weight, mean, square, step in zip(self._weights, self._mean, self._square, steps, strict=True):
            mean += 0.1 * (step - mean)
            square += 0.001 * (step * step - square)
            weight -= self.rate * (mean / shrink) / (np.sqrt(square / shrink_square) + 1e-8)
