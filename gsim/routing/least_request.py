"""Fewest requests in flight (join the shortest queue)."""

from __future__ import annotations

from dataclasses import dataclass, field

from gsim.core import ClusterView, Decision, Request, register
from gsim.core.view import Floats
from gsim.routing.choice import Drawing, lowest_at_random, nothing, scratch


@register("router", "least_request")
@dataclass
class LeastRequest(Drawing):
    """argmin F_i, the requests in flight on instance i; ties at random.

    State: the gateway's own in-flight counts (S1), exact. Source: AIBrix ``least-request``, LiteLLM ``least-busy``,
    Dynamo ``least-loaded`` (join the shortest queue). Simplified: upstream counters are shared by several gateways
    with a delay; here there is one gateway.
    """

    _scores: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The instance with the fewest requests in flight."""
        self._scores = scores = scratch(self._scores, len(view))
        scores[:] = view.in_flight
        return lowest_at_random(scores, view.available, self._rng)
