"""What requests in flight have yet to decode, and how likely each is in time: by tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gsim.core.view import Floats, Ints
from gsim.lateness.delay_costs import DELAYS_S
from gsim.lateness.shapes import NORMAL, Shapes

#: Who has outlived so many of its kind is a new experience, and not about to end: from there on its length is taken to
#: be normal, with so many deviations behind it.
_OUTLIVED = 0.97
_BEHIND = 1.6
#: No smaller share is divided by.
_SOME = 0.01


@dataclass(frozen=True)
class Decoding:
    """Requests in flight, and what is expected of each (arrays of equal length)."""

    generated: Floats
    """Tokens so far, where it is."""
    log_tokens: Floats
    """Mean of the logarithm of how many there will be."""
    deviation: Floats
    """Standard deviation of that."""
    rows: Ints
    """How it is distributed: a row of ``Shapes``."""
    wait_s: Floats
    """Until its first token; 0 once it decodes."""
    pace_s: Floats
    """Seconds per token."""
    left_s: Floats
    """To its deadline."""

    @classmethod
    def of(
        cls,
        shapes: Shapes,
        *,
        generated: Floats,
        log_tokens: Floats,
        deviation: Floats,
        rows: Ints,
        wait_s: Floats,
        pace_s: Floats,
        left_s: Floats,
    ) -> Decoding:
        """The same, whoever has outlived nearly all of its kind set right."""
        so_far = np.log(np.maximum(generated, 1.0))
        outlived = shapes.below_each(rows, (so_far - log_tokens) / deviation) > _OUTLIVED
        log_tokens = np.where(outlived, so_far - _BEHIND * deviation, log_tokens)
        rows = np.where(outlived, NORMAL, rows)
        return cls(generated, log_tokens, deviation, rows, wait_s, pace_s, left_s)

    def in_time(self, shapes: Shapes) -> Floats:
        """The chance, per request and delay of ``DELAYS_S``, to be in time if delayed by that much from now on.

        P(length <= generated + (left - delay) / pace | length > generated).
        """
        left_s = (self.left_s - self.wait_s)[:, None] - DELAYS_S
        within = np.maximum(left_s, 0.0)
        within /= self.pace_s[:, None]
        within += np.maximum(self.generated, 1.0)[:, None]
        z = np.log(within, out=within)
        z -= self.log_tokens[:, None]
        z /= self.deviation[:, None]
        in_time = shapes.below_each(self.rows, z)
        outlived = shapes.below_each(self.rows, self._place())
        in_time -= outlived[:, None]
        in_time /= np.maximum(1.0 - outlived, _SOME)[:, None]
        in_time *= left_s > 0.0
        return np.maximum(in_time, 0.0, out=in_time)

    def to_decode(self, shapes: Shapes) -> Floats:
        """The tokens that are expected to come, given that its length is more than was generated (1 or more)."""
        total = np.exp(self.log_tokens) * shapes.mean_above(self.rows, self._place(), self.deviation)
        return np.maximum(total - self.generated, 1.0)

    def _place(self) -> Floats:
        place: Floats = (np.log(np.maximum(self.generated, 1.0)) - self.log_tokens) / self.deviation
        return place
