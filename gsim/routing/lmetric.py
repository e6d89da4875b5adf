"""Tokens to prefill times requests present."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gsim.core import ClusterView, Decision, Request, register
from gsim.core.view import Floats
from gsim.routing.choice import Drawing, lowest_at_random


@register("router", "lmetric")
@dataclass
class Lmetric(Drawing):
    """argmin (P_i + L_in - h_i) * (R_i + W_i + 1); ties at random.

    P_i: prompt tokens in flight without a first token; h_i: matched prompt tokens; R_i, W_i: running and waiting
    requests. A product, so that no weight has to be tuned between cache and load.

    State: in-flight prefill tokens (S1), running and waiting (S2, every 100 ms), prefix matches (S4 upstream). Source:
    LMETRIC (Blitz) as in Lodestar's ``kvcache``; Dynamo's ``lmetric``. Simplified: matches come from the gateway's
    approximate index, and the prompts in flight count whole (what of them is cached is not tracked).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"scrape", "prefix"})
    scrape_interval_s: ClassVar[float] = 0.1

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The instance with the smallest product."""
        # At least the last prompt token is computed, so that load counts on a full hit too.
        new = np.maximum(request.prompt_tokens - view.prefix_tokens(request), 1)
        cost: Floats = (view.in_flight_prefill_tokens + new) * (view.running + view.waiting + 1.0)
        return lowest_at_random(cost, view.available, self._rng)
