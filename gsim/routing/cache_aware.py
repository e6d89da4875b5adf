"""The instance that has the prompt's prefix, unless load is out of balance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gsim.core import HOLD, ClusterView, ConfigError, Decision, Request, register
from gsim.routing.choice import Drawing, any_of, holders_of_longest


@register("router", "cache_aware")
@dataclass
class CacheAware(Drawing):
    """Prefix affinity with two thresholds, over the instances that are up.

    Out of balance, F_max - F_min > abs and F_max > rel * F_min: argmin F. Else m = h_max / L_in, the best match as a
    share of the prompt: m > ``cache_threshold``: the instance with the longest match (ties: fewest in flight); else
    argmin F. Ties at random.

    State: in-flight counts (S1), approximate prefix index (S3). Source: SGLang router ``cache_aware`` (0.3, 64, 1.5).
    Simplified: matches are counted in tokens (as over gRPC), in blocks of the gateway's index; upstream keeps one
    character tree per model with its own eviction interval.
    """

    cache_threshold: float = 0.3
    """Share of the prompt that must match for affinity to count."""
    balance_abs_threshold: int = 64
    """Difference of requests in flight above which load may be out of balance."""
    balance_rel_threshold: float = 1.5
    """Ratio of requests in flight above which load may be out of balance."""
    needs: ClassVar[frozenset[str]] = frozenset({"prefix"})

    def __post_init__(self) -> None:
        if not 0 <= self.cache_threshold <= 1:
            raise ConfigError(f"router.cache_threshold must be in [0, 1], not {self.cache_threshold}")
        if self.balance_abs_threshold < 0:
            raise ConfigError(f"router.balance_abs_threshold must be 0 or more, not {self.balance_abs_threshold}")
        if not self.balance_rel_threshold >= 1:
            raise ConfigError(f"router.balance_rel_threshold must be 1 or more, not {self.balance_rel_threshold}")

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The holder of the longest match, or the least loaded instance."""
        up = view.available.nonzero()[0]
        if not len(up):
            return HOLD
        in_flight = view.in_flight[up]
        low, high = int(in_flight.min()), int(in_flight.max())
        balanced = high - low <= self.balance_abs_threshold or high <= self.balance_rel_threshold * low
        if balanced:
            matched = view.prefix_tokens(request)[up]
            up, in_flight = holders_of_longest(matched, self.cache_threshold * request.prompt_tokens, up, in_flight)
            low = int(in_flight.min())
        return any_of(up[in_flight == low], self._rng)
