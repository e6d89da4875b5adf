"""What a predicted output length means, learned from the lengths that came out."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, log

#: A class's line counts as so many requests ...
_PRIOR = 20.0
#: ... whose log lengths vary by so much, and err by so much around it.
_PRIOR_VARIANCE = 0.25
_PRIOR_ERROR = 0.09


@dataclass(slots=True)
class _Line:
    """log length = mean of log lengths + slope * (log predicted - its mean), by exponentially weighted regression."""

    seen: float = 0.0
    mean_x: float = 0.0
    mean_off: float = 0.0
    """Of log length - log predicted."""
    variance: float = 0.0
    covariance: float = 0.0
    """Of (log length - log predicted) with log predicted."""
    error: float = _PRIOR_ERROR
    """Mean square error around the line."""

    def at(self, x: float) -> float:
        """The expected log length."""
        strength = self.seen / (self.seen + _PRIOR)
        return x + strength * (self.mean_off + self._tilt() * (x - self.mean_x))

    def _tilt(self) -> float:
        prior = _PRIOR_VARIANCE * _PRIOR / (self.seen + _PRIOR)
        return self.covariance / (self.variance + prior)

    def learn(self, x: float, y: float, forget: float) -> None:
        """One finished request."""
        off = y - self.at(x)
        self.error += max(forget, 1.0 / (_PRIOR + self.seen)) * (off * off - self.error)
        self.seen = min(self.seen + 1.0, 1.0 / forget)
        share = max(forget, 1.0 / self.seen)
        step_x, step_off = x - self.mean_x, y - x - self.mean_off
        self.mean_x += share * step_x
        self.mean_off += share * step_off
        self.variance = (1.0 - share) * (self.variance + share * step_x * step_x)
        self.covariance = (1.0 - share) * (self.covariance + share * step_x * step_off)


@dataclass
class Recalibration:
    """Per task class: the median length of requests of a given prediction, and how far lengths lie from it.

    A regression of log length on log prediction, drawn to the prediction itself while little is known. Where
    predictions err at random the line is flatter than the diagonal: an unusual prediction is probably an error.
    """

    forget: float = 0.002
    """Weight of a new request once there are many."""
    _lines: dict[str, _Line] = field(default_factory=dict, init=False, repr=False, compare=False)

    def length(self, task: str, predicted_tokens: float) -> tuple[float, float]:
        """Median output tokens (at least 1), and the variance of the log length around it."""
        line = self._lines.get(task)
        if line is None:
            return predicted_tokens, _PRIOR_ERROR
        return max(exp(line.at(log(predicted_tokens))), 1.0), line.error

    def learn(self, task: str, predicted_tokens: float, output_tokens: int) -> None:
        """A request of this class and prediction had so many output tokens."""
        line = self._lines.get(task)
        if line is None:
            line = self._lines[task] = _Line()
        line.learn(log(predicted_tokens), log(output_tokens), self.forget)
