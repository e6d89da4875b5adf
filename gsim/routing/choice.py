"""How routers turn scores into an instance: the best one that is up, ties broken by a stated rule."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gsim.core import HOLD, Decision
from gsim.core.view import Bools, Floats, Ints

_INF = float("inf")


def lowest(scores: Floats, available: Bools) -> Decision:
    """The available instance with the lowest score; ties: the lowest index. HOLD when none is available.

    ``scores`` is the caller's scratch: scores of instances that are down may be overwritten.
    """
    best = int(scores.argmin())
    if available[best]:
        return best
    np.copyto(scores, _INF, where=~available)
    best = int(scores.argmin())
    return best if available[best] else HOLD


def lowest_at_random(scores: Floats, available: Bools, rng: np.random.Generator) -> Decision:
    """The available instance with the lowest score; ties: uniformly at random. HOLD when none is available.

    ``scores`` is the caller's scratch: scores of instances that are down may be overwritten.
    """
    best = int(scores.argmin())
    if not available[best]:
        np.copyto(scores, _INF, where=~available)
        best = int(scores.argmin())
        if not available[best]:
            return HOLD
    tied = (scores == scores[best]).nonzero()[0]
    if len(tied) == 1:
        return best
    tied = tied[available[tied]]
    return int(tied[int(rng.random() * len(tied))])


def highest_within(values: Floats, limit: float, scratch: Floats) -> int:
    """Where the highest of positive ``values`` is that is not above ``limit``; ties: the lowest index.

    Where all are above it, the answer is one of them: ask whether it is. ``scratch`` is overwritten.
    """
    # Each value takes the sign of its distance to the limit: those above it come after all others. Three calls of
    # NumPy; comparing and masking takes one and a half times as long among 64 instances.
    np.subtract(limit, values, scratch)
    np.copysign(values, scratch, scratch)
    return int(scratch.argmax())


def holders_of_longest(matched: Ints, more_than: float, up: Ints, load: Ints) -> tuple[Ints, Ints]:
    """Of the instances ``up``, those with the longest match if it has more than so many tokens; else all of them.

    ``matched`` and ``load`` have an entry for each of ``up``; returned are instances and their load.
    """
    longest = int(matched.max())
    if longest <= more_than:
        return up, load
    holders = matched == longest
    return up[holders], load[holders]


def any_of(candidates: Ints, rng: np.random.Generator) -> Decision:
    """One of ``candidates``, uniformly at random. HOLD when there is none."""
    if not len(candidates):
        return HOLD
    return int(candidates[int(rng.random() * len(candidates))])


def scratch(old: Floats, n: int) -> Floats:
    """``old`` where it has ``n`` entries, else a new array: routers reuse their memory from call to call."""
    return old if len(old) == n else np.empty(n)


def nothing() -> Floats:
    """An empty array: the default of a scratch field."""
    return np.empty(0)


def _unseeded() -> np.random.Generator:
    return np.random.default_rng(0)


@dataclass
class Drawing:
    """A policy that draws from a stream of its own (``Randomised``); before it is handed one, from a fixed seed."""

    _rng: np.random.Generator = field(default_factory=_unseeded, init=False, repr=False, compare=False)

    def seed(self, rng: np.random.Generator) -> None:
        """Draw from ``rng`` from now on."""
        self._rng = rng
