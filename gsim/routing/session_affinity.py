"""A session stays where it began."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gsim.core import ClusterView, Decision, Request, register
from gsim.core.view import Floats
from gsim.routing.choice import Drawing, lowest, lowest_at_random, nothing, scratch

_WORD = (1 << 64) - 1


@register("router", "session_affinity")
@dataclass
class SessionAffinity(Drawing):
    """argmax hash(session, i) over the instances that are up (rendezvous hashing); without a session: argmin F.

    Turns of one session go to one instance, whose cache has their prefix; when it is down, the session's others move to
    its second choice and nobody else's move at all. Ties of F at random.

    State: none (S0); in-flight counts (S1) for requests without a session. Source: AIBrix ``session-affinity``; vLLM
    production-stack ``session`` (a hash ring with the same effect). Nothing simplified.
    """

    _scores: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)
    _salt: NDArray[np.uint64] = field(
        default_factory=lambda: np.empty(0, dtype=np.uint64), init=False, repr=False, compare=False
    )

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The session's instance."""
        n = len(view)
        self._scores = scores = scratch(self._scores, n)
        if request.session_id < 0:
            scores[:] = view.in_flight
            return lowest_at_random(scores, view.available, self._rng)
        if len(self._salt) != n:
            self._salt = _mix(np.arange(1, n + 1, dtype=np.uint64))
        key = np.uint64(request.session_id * 0x9E3779B97F4A7C15 & _WORD)
        np.negative(_mix(self._salt ^ key), out=scores, casting="unsafe", dtype=np.float64)
        return lowest(scores, view.available)


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014): every bit of the input reaches every bit of the output."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
