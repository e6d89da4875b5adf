"""Fewest requests in flight (join the shortest queue)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gsim.core import ClusterView, Decision, Request, register
from gsim.core.view import Floats
from gsim.routing.choice import lowest_at_random, nothing, scratch, unseeded


@register("router", "least_request")
@dataclass
class LeastRequest:
    """argmin F_i, the requests in flight on instance i; ties at random.

    State: the gateway's own in-flight counts (S1), exact. Source: AIBrix ``least-request``, LiteLLM ``least-busy``,
    Dynamo ``least-loaded`` (join the shortest queue). Simplified: upstream counters are shared by several gateways
    with a delay; here there is one gateway.
    """

    _rng: np.random.Generator = field(default_factory=unseeded, init=False, repr=False, compare=False)
    _scores: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)

    def seed(self, rng: np.random.Generator) -> None:
        """Draw from ``rng`` from now on."""
        self._rng = rng

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The instance with the fewest requests in flight."""
        self._scores = scores = scratch(self._scores, len(view))
        scores[:] = view.in_flight
        return lowest_at_random(scores, view.available, self._rng)
