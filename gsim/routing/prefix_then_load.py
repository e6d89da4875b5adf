"""Longest prefix match among the instances that are not overloaded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from gsim.core import HOLD, ClusterView, ConfigError, Decision, Request, register
from gsim.routing.choice import Drawing, any_of, holders_of_longest


@register("router", "prefix_then_load")
@dataclass
class PrefixThenLoad(Drawing):
    """The longest match with F_i <= mean F + sigmas * sd F (then the smallest F); none: argmin F. Ties at random.

    Where F_max - F_min > ``imbalance``, only the least loaded instances are considered at all.

    State: in-flight counts (S1), approximate prefix index (S3). Source: AIBrix ``prefix-cache`` (imbalance 8, one
    standard deviation). Simplified: upstream matches blocks of 4 characters with a time to live of 20 minutes; here
    the gateway's token index with LRU eviction.
    """

    imbalance: int = 8
    """Difference of requests in flight above which affinity yields to load (upstream: 8)."""
    sigmas: float = 1.0
    """How many standard deviations above the mean load a holder may be (upstream: 1; its chart: 2, imbalance 16)."""
    blind: bool = False
    """Within ``imbalance`` nobody looks at load: any holder of the longest match, else any instance. So the decisions
    of one recorded AIBrix read (docs/validation.md): its fork asked for loads by address where they were kept by name.
    Read from the very runs that it is compared with; part of the agreement may be the router's draw."""
    needs: ClassVar[frozenset[str]] = frozenset({"prefix"})

    def __post_init__(self) -> None:
        if self.imbalance < 0:
            raise ConfigError(f"router.imbalance must be 0 or more, not {self.imbalance}")
        if not self.sigmas >= 0:
            raise ConfigError(f"router.sigmas must be 0 or more, not {self.sigmas}")

    def route(self, request: Request, view: ClusterView) -> Decision:
        """A holder of the prefix that is not overloaded, or the least loaded instance."""
        up = view.available.nonzero()[0]
        if not len(up):
            return HOLD
        in_flight = view.in_flight[up]
        mean = int(in_flight.sum()) / len(up)
        variance = max(int(in_flight @ in_flight) / len(up) - mean * mean, 0.0)
        limit = mean + self.sigmas * math.sqrt(variance)
        low = int(in_flight.min())
        if int(in_flight.max()) - low > self.imbalance:
            up = up[in_flight == low]
            in_flight = in_flight[in_flight == low]
        matched = view.prefix_tokens(request)[up]
        if not self.blind:
            matched[in_flight > limit] = 0
        up, in_flight = holders_of_longest(matched, 0, up, in_flight)
        return any_of(up if self.blind else up[in_flight == in_flight.min()], self._rng)
