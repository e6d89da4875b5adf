"""Shapes of length distributions: standardised distribution functions in one table, quick enough for a decision."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gsim.core.view import Floats, Ints
from gsim.lateness.chance import chances

#: Where a shape is known: so many standard deviations to either side of its mean, in steps of one over so many.
_FAR = 4.0
_PER_UNIT = 16
PLACES: Floats = np.arange(-_FAR, _FAR + 0.5 / _PER_UNIT, 1.0 / _PER_UNIT)
#: The first row of every table: the normal distribution, for whatever nothing else is known of.
NORMAL = 0
#: Just below the last place, so that there is always one above.
_LAST = _FAR - 1e-9
#: No smaller share is divided by.
_SOME = 1e-6


@dataclass
class Shapes:
    """How the logarithm of a length is distributed, standardised: Z = (log length - mean) / deviation. A row a shape.

    Between ``PLACES`` lines, beyond them nothing changes.
    """

    shares: Floats = field(default_factory=lambda: chances(PLACES.copy())[None, :])
    """P(Z < z) at each of ``PLACES``."""
    tails: Floats = field(default_factory=lambda: np.ones((1, len(PLACES))))
    """E[exp(deviation Z) | Z > z] there. Of the normal row nothing: its deviation is its user's (``mean_above``)."""

    def add(self, shapes: int) -> int:
        """Room for more shapes: the first of their rows."""
        first = len(self.shares)
        self.shares = np.vstack([self.shares, np.tile(self.shares[NORMAL], (shapes, 1))])
        self.tails = np.vstack([self.tails, np.tile(self.tails[NORMAL], (shapes, 1))])
        return first

    def set(self, row: int, shares: Floats, deviation: float) -> None:
        """This shape is so, for lengths whose logarithm has this standard deviation."""
        self.shares[row] = shares
        here = np.diff(shares, append=1.0)
        weighed = here * np.exp(deviation * (PLACES + 0.5 / _PER_UNIT))
        beyond = np.maximum(1.0 - shares, _SOME)
        self.tails[row] = np.maximum(weighed[::-1].cumsum()[::-1] / beyond, np.exp(deviation * PLACES))

    def below(self, row: int, z: Floats) -> Floats:
        """P(Z < z) of one shape. ``z`` is the caller's scratch and is overwritten."""
        return _between(self.shares[row], _places(z), z)

    def below_each(self, rows: Ints, z: Floats) -> Floats:
        """The same with a shape for every leading index of ``z``."""
        place = _places(z)
        place += (rows * len(PLACES)).reshape(len(rows), *(1,) * (z.ndim - 1))
        return _between(self.shares.ravel(), place, z)

    def mean_above(self, rows: Ints, z: Floats, deviation: Floats) -> Floats:
        """E[exp(deviation Z) | Z > z] of a shape, a place and a deviation each."""
        normal = np.exp(0.5 * deviation**2) * chances(deviation - z) / np.maximum(chances(-z), _SOME)
        learned = self.tails[rows, _places(z.copy())]
        mean: Floats = np.where(rows == NORMAL, normal, learned)
        return mean


def _places(z: Floats) -> Ints:
    """Which place lies below; ``z`` becomes how far it is from there to the next."""
    np.minimum(z, _LAST, out=z)
    np.maximum(z, -_FAR, out=z)
    z += _FAR
    z *= _PER_UNIT
    place = z.astype(np.intp)
    z -= place
    return place


def _between(shares: Floats, place: Ints, over: Floats) -> Floats:
    low = shares.take(place)
    place += 1
    high = shares.take(place)
    high -= low
    high *= over
    high += low
    return high
