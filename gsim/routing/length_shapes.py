"""How lengths lie around what is expected of them: learned per task class, apart for small and large predictions."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from typing import NamedTuple

import numpy as np

from gsim.core.view import Floats
from gsim.lateness.chance import chances
from gsim.lateness.shapes import NORMAL, PLACES, Shapes

#: So many of a class's newest requests are looked at, again after so many new ones, and not before there are so many.
_REMEMBERED = 512
_NEWS = 32
_FEWEST = 64
#: Predictions are told apart by their rank in so many groups of equal size.
_GROUPS = 5
#: What is assumed of a group counts as so many requests.
_PRIOR = 10.0
#: Variance of log predictions at which half of a tilt is believed.
_ALIKE = 0.003
#: Quantiles that stand for a group.
_POINTS = (np.arange(24) + 0.5) / 24
#: Standard deviation of the logarithm that every length is blurred by: latencies err too, and samples are few.
BLUR = 0.1


class LengthShape(NamedTuple):
    """How log lengths lie around the line of their class."""

    shift: float
    """Their mean less the line, at ``centre``."""
    centre: float
    """A log prediction."""
    tilt: float
    """By how much that mean rises with the log prediction."""
    variance: float
    row: int
    """Of ``Shapes``: (log length - line - ``off``) / sqrt(variance + BLUR^2) is distributed like that."""

    def off(self, log_predicted: float) -> float:
        """Their mean less the line, for requests of this prediction."""
        return self.shift + self.tilt * (log_predicted - self.centre)


@dataclass
class _Window:
    """The newest requests of a class, in a ring."""

    predicted: Floats = field(default_factory=lambda: np.zeros(_REMEMBERED))
    """The logarithm of what was predicted."""
    off: Floats = field(default_factory=lambda: np.zeros(_REMEMBERED))
    """Log length less the line."""
    seen: int = 0
    bounds: list[float] = field(default_factory=list)
    """Between the groups, in log predictions."""
    shapes: list[LengthShape] = field(default_factory=list)


@dataclass
class LengthShapes:
    """Per task class and group of predictions: mean, variance and shape of log lengths around the class's line.

    A predictor that says one length for all leaves a spread that is as wide as the class and not normal; lengths that
    end at a largest one leave long predictions with none above it. Neither is told by a variance.
    """

    shapes: Shapes = field(default_factory=Shapes)
    _windows: dict[str, _Window] = field(default_factory=dict)

    def of(self, task: str, log_predicted: float, variance: float) -> LengthShape:
        """What is known; else normal, of this variance."""
        window = self._windows.get(task)
        if window is None or not window.shapes:
            return LengthShape(0.0, 0.0, 0.0, variance, NORMAL)
        return window.shapes[bisect_left(window.bounds, log_predicted)]

    def learn(self, task: str, log_predicted: float, off: float, variance: float) -> None:
        """The log length of a request of this prediction was ``off`` the line, around which they vary so much."""
        window = self._windows.get(task)
        if window is None:
            window = self._windows[task] = _Window()
        place = window.seen % _REMEMBERED
        window.predicted[place], window.off[place] = log_predicted, off
        window.seen += 1
        if window.seen >= _FEWEST and window.seen % _NEWS == 0:
            self._look(window, variance)

    def _look(self, window: _Window, variance: float) -> None:
        n = min(window.seen, _REMEMBERED)
        order = np.argsort(window.predicted[:n], kind="stable")
        predicted, off = window.predicted[order], window.off[order]
        cuts = [k * n // _GROUPS for k in range(_GROUPS + 1)]
        row = window.shapes[0].row if window.shapes else self.shapes.add(_GROUPS)
        window.bounds = [0.5 * float(predicted[cut - 1] + predicted[cut]) for cut in cuts[1:-1]]
        groups = [slice(*ends) for ends in pairwise(cuts)]
        window.shapes = [self._shape(predicted[g], off[g], variance, row + k) for k, g in enumerate(groups)]

    def _shape(self, predicted: Floats, off: Floats, prior_variance: float, row: int) -> LengthShape:
        known = len(off) / (len(off) + _PRIOR)
        centre, shift = float(predicted.mean()), known * float(off.mean())
        aside = predicted - centre
        tilt = known * float(aside @ off) / (float(aside @ aside) + _ALIKE * len(off))
        off = np.sort(off - tilt * aside)
        variance = known * float(off.var()) + (1.0 - known) * prior_variance
        points = off[(_POINTS * len(off)).astype(np.intp)]
        deviation = sqrt(variance + BLUR * BLUR)
        share = chances((shift + PLACES[:, None] * deviation - points) / BLUR).mean(axis=1)
        self.shapes.set(row, known * share + (1.0 - known) * self.shapes.shares[NORMAL], deviation)
        return LengthShape(shift, centre, tilt, variance, row)
