"""Llumnix's freeness: free blocks per request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gsim.core import ClusterView, Decision, Request, register
from gsim.core.view import Floats
from gsim.routing.choice import Drawing, lowest_at_random, nothing, scratch


@register("router", "llumnix_freeness")
@dataclass
class LlumnixFreeness(Drawing):
    """argmax (free blocks_i - blocks that waiting requests need_i) / max(R_i + W_i, 1); ties at random.

    How many iterations the instance could go on until its KV cache is full ("remaining steps").

    State: running, waiting and KV usage (S2, every 500 ms), prompt tokens in flight (S1). Source: Llumnix v0
    ``load_computation``. Simplified: what the waiting requests need is not scraped; it is the prompt tokens in flight
    without a first token, where anything waits at all.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"scrape"})
    scrape_interval_s: ClassVar[float] = 0.5
    _scores: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The freest instance."""
        self._scores = tightness = scratch(self._scores, len(view))
        # Negative freeness in tokens: (usage - 1) * capacity + tokens waiting, per request.
        np.subtract(view.kv_usage, 1.0, out=tightness)
        tightness *= view.static.kv_capacity_tokens
        tightness += view.in_flight_prefill_tokens * (view.waiting > 0)
        tightness /= np.maximum(view.running + view.waiting, 1)
        return lowest_at_random(tightness, view.available, self._rng)
