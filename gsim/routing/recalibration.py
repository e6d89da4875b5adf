"""What a predicted output length means, learned from the lengths that came out."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, log
from typing import NamedTuple

from gsim.lateness.shapes import NORMAL, Shapes
from gsim.routing.length_shapes import LengthShapes

#: A class's line counts as so many requests ...
_PRIOR = 20.0
#: ... whose log lengths vary by so much, and err by so much around it.
_PRIOR_VARIANCE = 0.25
_PRIOR_ERROR = 0.09


class Length(NamedTuple):
    """What is expected of a request's length."""

    tokens: float
    """exp of the mean of its logarithm (1 or more)."""
    variance: float
    """Of its logarithm."""
    row: int
    """How it is distributed: a row of ``Recalibration.shapes``."""


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
    """Per task class: the length of requests of a given prediction, and how lengths lie around it.

    A regression of log length on log prediction, drawn to the prediction itself while little is known. Where
    predictions err at random the line is flatter than the diagonal: an unusual prediction is probably an error. How
    lengths lie around the line is another matter (``LengthShapes``).
    """

    forget: float = 0.002
    """Weight of a new request once there are many."""
    _lines: dict[str, _Line] = field(default_factory=dict, init=False, repr=False, compare=False)
    _around: LengthShapes = field(default_factory=LengthShapes, init=False, repr=False, compare=False)

    @property
    def shapes(self) -> Shapes:
        """What the rows of ``Length`` are of."""
        return self._around.shapes

    def length(self, task: str, predicted_tokens: float) -> Length:
        """What a prediction means for a request of this class."""
        line = self._lines.get(task)
        if line is None:
            return Length(predicted_tokens, _PRIOR_ERROR, NORMAL)
        x = log(predicted_tokens)
        around = self._around.of(task, x, line.error)
        return Length(max(exp(line.at(x) + around.off(x)), 1.0), around.variance, around.row)

    def learn(self, task: str, predicted_tokens: float, output_tokens: int) -> None:
        """A request of this class and prediction had so many output tokens."""
        line = self._lines.get(task)
        if line is None:
            line = self._lines[task] = _Line()
        x, y = log(predicted_tokens), log(output_tokens)
        self._around.learn(task, x, y - line.at(x), line.error)
        line.learn(x, y, self.forget)
