"""Join the shortest queue, weighted by speed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gsim.core import ClusterView, Decision, Request, register
from gsim.core.view import Floats
from gsim.routing.choice import Drawing, lowest_at_random, nothing, scratch


@register("router", "weighted_jsq")
@dataclass
class WeightedJsq(Drawing):
    """argmin (F_i + 1) / thr_i: requests in flight with this one, over nominal tokens per second; ties at random.

    The cheapest rule that knows the pool is mixed.

    State: in-flight counts (S1), nominal speed (S5). Source: LMDeploy ``min_expected_latency``, Dynamo
    ``device-aware-weighted``. Simplified: the speed is the profile's, not a configured or learned one.
    """

    _scores: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The instance with the shortest queue for its speed."""
        self._scores = scores = scratch(self._scores, len(view))
        np.add(view.in_flight, 1.0, out=scores)
        scores /= view.static.nominal_tokens_per_s
        return lowest_at_random(scores, view.available, self._rng)
