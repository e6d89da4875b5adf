"""How many of the requests in flight a delay would make late, per instance."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log, sqrt

import numpy as np

from gsim.core.view import Floats, Ints
from gsim.lateness.chance import chances

#: Delays at which the expected number is kept: their roots are evenly spaced, so they are denser where they are short.
POINTS = 13
LONGEST_S = 9.0
_STEP = sqrt(LONGEST_S) / (POINTS - 1)
DELAYS_S: Floats = np.square(_STEP * np.arange(POINTS, dtype=np.float64))
_PER_SECOND: Floats = 1.0 / np.diff(DELAYS_S)
#: An instance that takes much longer than expected is a new experience, not a proof that it is done at once: a latency
#: is believed to be at most so many deviations beyond its median.
_BEYOND = 3.0
_SOON_S = 1e-6


@dataclass(frozen=True)
class Running:
    """Requests in flight, and what is expected of each: its latency is log-normal (arrays of equal length)."""

    elapsed_s: Floats
    """For how long each has been where it is (more than 0)."""
    allowed_s: Floats
    """How long it may be there to be in time."""
    median_s: Floats
    """The median of how long it will be there."""
    deviation: Floats
    """Standard deviation of the logarithm of that."""

    def in_time(self) -> Floats:
        """The chance, per request and delay of ``DELAYS_S``, to be in time if delayed by that much from now on.

        P(T + delay <= allowed | T > elapsed), 0 where it is too late already.
        """
        log_elapsed = np.log(self.elapsed_s)
        log_median = np.maximum(np.log(self.median_s), log_elapsed - _BEYOND * self.deviation)
        left_s = self.allowed_s[:, None] - DELAYS_S
        z = np.log(np.maximum(left_s, _SOON_S))
        z -= log_median[:, None]
        z /= -self.deviation[:, None]
        over = chances((log_median - log_elapsed) / self.deviation)
        in_time: Floats = 1.0 - chances(z) / over[:, None]
        in_time *= left_s > self.elapsed_s[:, None]
        return np.maximum(in_time, 0.0, out=in_time)


@dataclass
class DelayCosts:
    """The expected number of requests that a delay makes late, by instance and delay.

    A table of its values at ``DELAYS_S``, straight lines between them: set from all requests in flight when these were
    observed; in between whoever comes adds a row, and of whoever leaves an average share is taken out. So a decision
    costs time per instance, whatever is in flight.
    """

    table: Floats = field(default_factory=lambda: np.zeros((0, POINTS)))
    """A row per instance, a column per delay."""
    count: Floats = field(default_factory=lambda: np.zeros(0))
    """Requests that the table is of, per instance."""
    _rows: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64), init=False, repr=False, compare=False)
    """Where each instance's row begins in the flat table."""

    def clear(self, instances: int) -> None:
        """Nobody is in flight on so many instances."""
        self.table = np.zeros((instances, POINTS))
        self.count = np.zeros(instances)

    def reset(self, instances: int, here: Ints, in_time: Floats) -> None:
        """From these requests and no others: the instance of each, and its row of ``Running.in_time``."""
        late = in_time[:, :1] - in_time
        self.table = np.empty((instances, POINTS))
        for k in range(POINTS):
            self.table[:, k] = np.bincount(here, weights=late[:, k], minlength=instances)
        self.count = np.bincount(here, minlength=instances).astype(np.float64)

    def add(self, instance: int, left_s: float, median_s: float, deviation: float) -> None:
        """One more, which has just come: ``left_s`` to its deadline, its latency as in ``Running``."""
        z = np.log(np.maximum(left_s - DELAYS_S, _SOON_S))
        z -= log(median_s)
        z /= deviation
        in_time = chances(z)
        self.table[instance] += in_time[0] - in_time
        self.count[instance] += 1.0

    def take_one(self, instance: int) -> None:
        """One of them has left."""
        count = float(self.count[instance])
        if count > 0.0:
            self.table[instance] *= (count - 1.0) / count
            self.count[instance] = count - 1.0

    def of(self, delay_s: Floats) -> Floats:
        """The expected number that is made late on every instance, delayed by so many seconds each."""
        place = np.sqrt(delay_s)
        place *= 1.0 / _STEP
        # Before it is a whole number: a delay without end is none.
        np.minimum(place, POINTS - 2, out=place)
        below = place.astype(np.intp)
        over_s = np.minimum(delay_s, LONGEST_S)
        over_s -= DELAYS_S.take(below)
        over_s *= _PER_SECOND.take(below)
        flat = self.table.ravel()
        if len(self._rows) != len(below):
            self._rows = np.arange(0, len(flat), POINTS)
        below += self._rows
        low = flat.take(below)
        below += 1
        high = flat.take(below)
        high -= low
        high *= over_s
        high += low
        return high
