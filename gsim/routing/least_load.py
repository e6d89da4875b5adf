"""Shortest drain time: outstanding tokens over speed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gsim.core import ClusterView, ConfigError, Decision, Request, register
from gsim.core.view import Floats
from gsim.routing.choice import Drawing, lowest_at_random, nothing, scratch


@register("router", "least_load")
@dataclass
class LeastLoad(Drawing):
    """argmin W_i / thr_i + kv_weight_s * K_i / (1 - K_i); ties at random.

    W_i: tokens outstanding on instance i (prompt plus predicted output of all in flight), thr_i its nominal tokens per
    second, K_i its KV usage: the time to drain what is there, plus a penalty that grows as the KV cache fills.

    State: in-flight tokens (S1), KV usage (S2), nominal speed (S5). Source: SGLang Model Gateway ``least_load``
    (lambda = 0.15 s; load poll every 10 s). Simplified: upstream counts uncached prompt tokens from the engine's
    report plus those sent since; here the gateway counts prompt and predicted output itself, exactly.
    """

    kv_weight_s: float = 0.15
    """Seconds that an instance whose KV cache is half full is charged (upstream: 0.15)."""
    needs: ClassVar[frozenset[str]] = frozenset({"scrape", "prediction"})
    scrape_interval_s: ClassVar[float] = 10.0
    _scores: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.kv_weight_s >= 0:
            raise ConfigError(f"router.kv_weight_s must be 0 or more, not {self.kv_weight_s}")

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The instance that would be idle first."""
        self._scores = scores = scratch(self._scores, len(view))
        usage = np.minimum(view.kv_usage, 0.999)
        np.subtract(1.0, usage, out=scores)
        np.divide(usage, scores, out=scores)
        scores *= self.kv_weight_s
        scores += view.in_flight_tokens / view.static.nominal_tokens_per_s
        return lowest_at_random(scores, view.available, self._rng)
