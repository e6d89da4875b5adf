"""How many experts a batch activates, and what a layer of them takes.

A layer of experts reads the weights of every expert that some token of the batch is sent to, so its time depends on how
many *different* experts a batch meets. With k of E experts for each of T tokens, drawn alike and independently, that is

    uniform(T) = E (1 - (1 - k / E)^T)

Real routers prefer some experts, and the tokens of one text prefer the same: fewer are met. How many is a property of
model and traffic that no table of kernels holds, so it is a field. Either a curve of measured points, or two numbers: a
preference, the exponent a of a Zipf law by which experts are chosen (0: all alike), and a share, of what independent
choice would add to the k of a single token (tokens of one text choose alike):

    activated(T) = k + share (sum over i of (1 - (1 - q_i)^T) - k),    q_i ~ i^-a, at most 1, sum of q_i = k
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gsim.core.errors import ProfileError
from gsim.latency.models import Experts

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Activation:
    """How many different experts of a layer a batch of tokens activates."""

    count: int
    active: int
    share: float = 1.0
    """Of what independent choice would add to the experts of one token; 1: independent."""
    preference: float = 0.0
    """Exponent of the Zipf law by which experts are chosen; 0: uniform."""
    curve: tuple[tuple[float, float], ...] = ()
    """Measured (tokens, experts), rising; linear between, constant outside. Empty: from the share."""

    def __post_init__(self) -> None:
        if not 1 <= self.active <= self.count:
            raise ProfileError(f"activated experts: {self.active} of {self.count} experts cannot be active")
        if not 0.0 <= self.share <= 1.0:
            raise ProfileError(f"activated experts: share must be between 0 and 1, not {self.share}")
        if not 0.0 <= self.preference <= 5.0:
            raise ProfileError(f"activated experts: preference must be between 0 and 5, not {self.preference}")
        for (t, n), (u, m) in pairwise(self.curve):
            if u <= t or m < n:
                raise ProfileError(
                    f"activated experts: the curve must rise, but {n:g} at {t:g} is before {m:g} at {u:g}"
                )

    def at(self, tokens: Floats) -> Floats:
        """Experts by tokens of the batch."""
        if self.curve:
            known: Floats = np.interp(tokens, *np.array(self.curve).T)
            return known
        chances, counts = np.unique(self.chances(), return_counts=True)
        sizes, place = np.unique(tokens, return_inverse=True)
        alone = ((1.0 - (1.0 - chances[None, :]) ** sizes[:, None]) * counts).sum(axis=1)[place]
        met: Floats = np.minimum(self.active, alone) + self.share * np.maximum(alone - self.active, 0.0)
        return met

    def chances(self) -> Floats:
        """How likely a token is sent to each expert: sums to the experts of one token."""
        weights = np.arange(1, self.count + 1, dtype=np.float64) ** -self.preference
        chances = np.zeros(self.count)
        # Nobody is chosen more than once: what is beyond 1 goes to the others.
        sure = np.zeros(self.count, dtype=np.bool_)
        for _ in range(self.count):
            chances[~sure] = (self.active - sure.sum()) * weights[~sure] / weights[~sure].sum()
            chances[sure] = 1.0
            over = (chances > 1.0) & ~sure
            if not over.any():
                break
            sure |= over
        return np.minimum(chances, 1.0)


def uniform_activation(experts: Experts) -> Activation:
    """Uniform, independent choice."""
    return Activation(experts.count, experts.active)


@dataclass(frozen=True)
class ExpertTable:
    """Measured time of one layer of experts, by tokens and by different experts that they activate."""

    tokens: tuple[int, ...]
    counts: tuple[int, ...]
    seconds: Floats = field(repr=False)
    """[tokens, counts]."""

    def at(self, tokens: Floats, activated: Floats) -> Floats:
        """Linear in both; below the first point constant, beyond the last tokens its slope carries on."""
        axis = np.asarray(self.tokens, dtype=np.float64)
        counts = np.asarray(self.counts, dtype=np.float64)
        by_size = np.stack([np.interp(activated, counts, row) for row in self.seconds])
        if len(axis) == 1:
            alone: Floats = by_size[0]
            return alone
        j = np.clip(np.searchsorted(axis, tokens, side="right") - 1, 0, len(axis) - 2)
        part = np.maximum((tokens - axis[j]) / (axis[j + 1] - axis[j]), 0.0)
        here = np.arange(len(tokens))
        low, high = by_size[j, here], by_size[j + 1, here]
        # A larger batch never takes less: the slope beyond the last point must not fall.
        time_s: Floats = low + part * np.where(part > 1.0, np.maximum(high - low, 0.0), high - low)
        return time_s
