"""How far expected latencies are off, per instance: learned from what finished."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gsim.core.view import Floats, float_cells

#: Before anything has finished: no bias, and two thirds of latencies within a fifth of what was expected.
_GUESSED_VARIANCE = 0.04
#: The guess counts as so many requests.
_GUESS = 20.0


@dataclass
class LatencyErrors:
    """Mean and variance of log(latency / expected latency) of every instance, the newest counting most.

    The expected latency is that for the number of tokens that came out: errors of length are another matter
    (``Recalibration``).
    """

    forget: float = 0.02
    """Weight of a new request once there are many, in (0, 1]."""
    least_variance: float = 0.01
    """No instance is believed to be more regular than this."""
    bias: Floats = field(default_factory=lambda: np.zeros(0), init=False)
    """Mean of the logarithm."""
    variance: Floats = field(default_factory=lambda: np.zeros(0), init=False)
    """Its variance, at least ``least_variance``."""
    _seen: list[int] = field(default_factory=list, init=False, repr=False, compare=False)

    def grow(self, instances: int) -> None:
        """Make room for so many instances, of which nothing is known."""
        more = instances - len(self.bias)
        self.bias = np.concatenate([self.bias, np.zeros(more)])
        self.variance = np.concatenate([self.variance, np.full(more, _GUESSED_VARIANCE)])
        self._seen += [0] * more

    def learn(self, instance: int, log_ratio: float) -> None:
        """A request took exp(``log_ratio``) times as long as was expected."""
        bias, variance = float_cells(self.bias), float_cells(self.variance)
        self._seen[instance] += 1
        share = max(self.forget, 1.0 / (_GUESS + self._seen[instance]))
        off = log_ratio - bias[instance]
        bias[instance] += share * off
        variance[instance] = max((1.0 - share) * (variance[instance] + share * off * off), self.least_variance)
