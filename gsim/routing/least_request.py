"""Fewest requests in flight (join the shortest queue)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from gsim.core import ClusterView, ConfigError, Decision, Request, register
from gsim.core.view import Floats
from gsim.routing.choice import Drawing, lowest, lowest_at_random, nothing, scratch

Ties = Literal["random", "first"]


@register("router", "least_request")
@dataclass
class LeastRequest(Drawing):
    """argmin F_i, the requests in flight on instance i; ties at random, or the lowest index.

    State: the gateway's own in-flight counts (S1), exact. Source: AIBrix ``least-request``, LiteLLM ``least-busy``,
    Dynamo ``least-loaded`` (join the shortest queue). Simplified: upstream counters are shared by several gateways
    with a delay; here there is one gateway.
    """

    ties: Ties = "random"
    """Which of equals is taken: ``random``, or ``first`` (as LiteLLM: in quiet times one instance gets most)."""
    _scores: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.ties not in get_args(Ties):
            raise ConfigError(f"router.ties '{self.ties}' is unknown; allowed: {', '.join(get_args(Ties))}")

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The instance with the fewest requests in flight."""
        self._scores = scores = scratch(self._scores, len(view))
        scores[:] = view.in_flight
        if self.ties == "first":
            return lowest(scores, view.available)
        return lowest_at_random(scores, view.available, self._rng)
