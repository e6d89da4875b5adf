"""Uniform random choice."""

from __future__ import annotations

from dataclasses import dataclass

from gsim.core import ClusterView, Decision, Request, register
from gsim.routing.choice import Drawing, any_of


@register("router", "random")
@dataclass
class Random(Drawing):
    """Control: an available instance, uniformly at random.

    State: none (S0). Source: SGLang router ``random``. Nothing simplified.
    """

    def route(self, request: Request, view: ClusterView) -> Decision:
        """A uniform draw; drawn again among those that are up where it hit one that is down."""
        drawn = int(self._rng.random() * len(view))
        if view.available[drawn]:
            return drawn
        return any_of(view.available.nonzero()[0], self._rng)
