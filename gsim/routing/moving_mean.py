"""Mean and variance of what is seen, the newest counting most, around a first guess."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class MovingMean:
    """Exponentially weighted mean and mean square deviation from it.

    The first guess counts as much as ``guess_weight`` observations do, and is forgotten with them.
    """

    forget: float
    """Weight of a new observation once there are many, in (0, 1]."""
    mean: float
    variance: float
    guess_weight: float = 10.0
    _seen: float = 0.0

    def learn(self, value: float) -> None:
        """One observation."""
        self._seen += 1.0
        share = max(self.forget, 1.0 / (self.guess_weight + self._seen))
        off = value - self.mean
        self.mean += share * off
        self.variance = (1.0 - share) * (self.variance + share * off * off)
