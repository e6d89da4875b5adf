"""Mooncake's conductor, its first half: cached prefixes against queues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gsim.core import REJECT, ClusterView, ConfigError, Decision, Request, Verdict, register
from gsim.routing.choice import lowest


@register("router", "mooncake")
@dataclass
class Mooncake:
    """argmin TTFT_i = q_i + p_i * (L_in - h_i); refused where even that misses the objective. Ties: the lowest index.

    q_i, p_i: learned queueing delay and prefill seconds per token (S6); h_i: prompt tokens that instance i probably has
    cached (S3). Source: Mooncake (FAST 2025), algorithm 1, without its third case (copying a prefix from the instance
    that has most of it) and without replicating hot prefixes. In a pool with roles ``handover=mooncake`` is the other
    half; in any other it is a router by TTFT.
    """

    ttft_slo_s: float | None = None
    """Refuse requests whose first token would be later than this; None: refuse none."""
    needs: ClassVar[frozenset[str]] = frozenset({"estimates", "prefix"})

    def __post_init__(self) -> None:
        if self.ttft_slo_s is not None and not self.ttft_slo_s > 0:
            raise ConfigError(f"router.ttft_slo_s must be greater than 0, not {self.ttft_slo_s}")

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The instance with the earliest first token."""
        new = np.maximum(request.prompt_tokens - view.prefix_tokens(request), 1)
        ttft_s = view.queue_s + view.prefill_s_per_token * new
        best = lowest(ttft_s, view.available)
        if isinstance(best, Verdict) or self.ttft_slo_s is None:
            return best
        return best if ttft_s[best] <= self.ttft_slo_s else REJECT
