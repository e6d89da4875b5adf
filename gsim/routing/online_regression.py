"""Straight lines learned while requests go by."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gsim.core.view import Floats


@dataclass
class OnlineRegression:
    """y = x w by recursive least squares, the newest counting most; drawn to what was known before while little is.

    Exact: w minimises sum forget^age (y - x w)^2 + doubt^-1 |(w - prior) / scale|^2, the second term fading too.
    Source: the textbook recursion (Haykin, Adaptive Filter Theory, chapter on RLS).
    """

    prior: Floats
    """Coefficients before anything was seen."""
    scale: Floats
    """How large a coefficient's error may be: its standard deviation before anything was seen."""
    keep: float = 0.995
    """What a sample counts after one more, in (0, 1]."""
    weights: Floats = field(init=False)
    _covariance: Floats = field(init=False, repr=False, compare=False)
    _most: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.weights = self.prior.copy()
        self._covariance = np.diag(np.square(self.scale))
        # Where a feature does not vary, forgetting would make its coefficient ever more uncertain, and one day wild.
        self._most = np.square(self.scale)

    def learn(self, x: Floats, y: float, noise: float) -> None:
        """One sample; ``noise``: its standard deviation around the line."""
        gain = self._covariance @ x
        gain /= noise * noise * self.keep + float(x @ gain)
        self.weights += gain * (y - float(x @ self.weights))
        self._covariance -= np.outer(gain, x @ self._covariance)
        self._covariance /= self.keep
        over = np.sqrt(np.minimum(self._most / np.maximum(self._covariance.diagonal(), 1e-300), 1.0))
        self._covariance *= over[:, None] * over
