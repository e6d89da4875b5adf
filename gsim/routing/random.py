"""Uniform random choice."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gsim.core import ClusterView, Decision, Request, register
from gsim.routing.choice import any_of, unseeded


@register("router", "random")
@dataclass
class Random:
    """Control: an available instance, uniformly at random.

    State: none (S0). Source: SGLang router ``random``. Nothing simplified.
    """

    _rng: np.random.Generator = field(default_factory=unseeded, init=False, repr=False, compare=False)

    def seed(self, rng: np.random.Generator) -> None:
        """Draw from ``rng`` from now on."""
        self._rng = rng

    def route(self, request: Request, view: ClusterView) -> Decision:
        """A uniform draw; drawn again among those that are up where it hit one that is down."""
        drawn = int(self._rng.random() * len(view))
        if view.available[drawn]:
            return drawn
        return any_of(view.available.nonzero()[0], self._rng)
