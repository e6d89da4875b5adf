"""How many of the requests in flight a delay would make late, per instance."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt

import numpy as np

from gsim.core.view import Floats, Ints
from gsim.routing.chance import chances

#: Delays at which the expected number is kept: denser where delays are short, as their roots are evenly spaced.
POINTS = 13
LONGEST_S = 9.0
_STEP = sqrt(LONGEST_S) / (POINTS - 1)
DELAYS_S: Floats = (_STEP * np.arange(POINTS)) ** 2


@dataclass(frozen=True)
class Running:
    """Requests in flight, and what is expected of each: its latency is log-normal (arrays of equal length)."""

    instance: Ints
    elapsed_s: Floats
    """For how long each has been where it is."""
    allowed_s: Floats
    """How long it may be there to be in time."""
    expected_s: Floats
    """The median of how long it will be there."""
    deviation: Floats
    """Standard deviation of the logarithm of that."""

    def made_late(self) -> Floats:
        """The chance, per request and delay of ``DELAYS_S``, that it is in time as things are and late if delayed.

        P(T <= allowed - delay | T > elapsed) for each delay, from the first (none) downwards. Who is too late already
        loses nothing.
        """
        shape = (len(self.instance), POINTS)
        left_s = self.allowed_s[:, None] - DELAYS_S
        open_ = left_s > self.elapsed_s[:, None]
        # An instance that has taken much longer than expected is a new experience, not a proof that it ends at once.
        log_elapsed = np.log(np.maximum(self.elapsed_s, 1e-6))
        log_median = np.maximum(np.log(self.expected_s), log_elapsed - 3.0 * self.deviation)
        z = np.log(np.maximum(left_s, 1e-6))
        z -= log_median[:, None]
        z /= -self.deviation[:, None]
        beyond = chances(z)
        still = chances((log_median - log_elapsed) / self.deviation)
        in_time: Floats = np.where(open_, 1.0 - beyond / still[:, None], 0.0)
        np.maximum(in_time, 0.0, out=in_time)
        late = in_time[:, :1] - in_time
        assert late.shape == shape
        return late


@dataclass
class DelayCosts:
    """The expected number of requests that a delay makes late, by instance and delay.

    Kept as a table of its values at ``DELAYS_S``: it is set from all requests in flight when these were observed; in
    between whoever comes adds its own row, and of whoever leaves an average share is taken out. So a decision costs time
    per instance, whatever is in flight.
    """

    table: Floats = field(default_factory=lambda: np.zeros((0, POINTS)))
    count: Floats = field(default_factory=lambda: np.zeros(0))
    """Requests that the table is of, per instance."""

    def reset(self, instances: int, running: Running) -> None:
        """From these requests and no others."""
        late = running.made_late()
        order = running.instance
        self.table = np.empty((instances, POINTS))
        for k in range(POINTS):
            self.table[:, k] = np.bincount(order, weights=late[:, k], minlength=instances)
        self.count = np.bincount(order, minlength=instances).astype(np.float64)

    def add(self, instance: int, late: Floats) -> None:
        """One more, with its row of ``Running.made_late``."""
        self.table[instance] += late
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
        place /= _STEP
        np.minimum(place, POINTS - 1.0001, out=place)
        below = place.astype(np.intp)
        place -= below
        flat = self.table.ravel()
        below += np.arange(0, len(flat), POINTS)
        low = flat[below]
        below += 1
        high = flat[below]
        high -= low
        high *= place
        high += low
        return high
