"""Random choice by capacity."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gsim.core import HOLD, ClusterView, Decision, Request, register
from gsim.core.view import Floats
from gsim.routing.choice import Drawing, nothing


@register("router", "weighted_random")
@dataclass
class WeightedRandom(Drawing):
    """P(i) proportional to thr_i, the nominal tokens per second of instance i, among those that are up.

    State: none but the nominal speed (S5). Source: LiteLLM ``simple-shuffle`` (weights, by default the deployment's
    rate limits). Simplified: the weight is the profile's throughput instead of a configured limit.
    """

    _cumulative: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)

    def route(self, request: Request, view: ClusterView) -> Decision:
        """A draw by weight; drawn again among those that are up where it hit one that is down."""
        if len(self._cumulative) != len(view):
            self._cumulative = np.cumsum(view.static.nominal_tokens_per_s)
        drawn = _draw(self._cumulative, self._rng)
        if view.available[drawn]:
            return drawn
        if not view.available.any():
            return HOLD
        return _draw(np.cumsum(view.static.nominal_tokens_per_s * view.available), self._rng)


def _draw(cumulative: Floats, rng: np.random.Generator) -> int:
    return int(cumulative.searchsorted(rng.random() * cumulative[-1], side="right"))
