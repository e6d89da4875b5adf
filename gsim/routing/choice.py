"""How routers turn scores into an instance: the best one that is up, ties broken by a stated rule."""

from __future__ import annotations

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


def unseeded() -> np.random.Generator:
    """The generator that a policy draws from until it is handed its own stream (``Randomised.seed``)."""
    return np.random.default_rng(0)
