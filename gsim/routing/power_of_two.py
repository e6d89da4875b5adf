"""The better of two random choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gsim.core import HOLD, ClusterView, ConfigError, Decision, Request, register
from gsim.routing.choice import Drawing

Metric = Literal["in_flight", "kv_usage"]


@register("router", "power_of_two")
@dataclass
class PowerOfTwo(Drawing):
    """Two distinct instances a, b drawn uniformly among those that are up; a if m_a <= m_b, else b.

    m: requests in flight, or KV usage. With ``max_ongoing`` an instance that has that many in flight does not accept:
    where neither accepts, the request is held (Ray Serve backs off and probes again).

    State: in-flight counts (S1), or KV usage (S2). Source: SGLang router ``power_of_two`` (both metrics, first wins
    ties), Ray Serve's ``pow_2_router`` (``max_ongoing``). Simplified: no probe over the network, so no probe deadline
    and no back-off; a held request is asked again when something changes.
    """

    metric: Metric = "in_flight"
    """What is compared: ``in_flight`` or ``kv_usage``."""
    max_ongoing: int | None = None
    """Requests in flight at which an instance stops accepting; None: never."""

    def __post_init__(self) -> None:
        if self.metric not in ("in_flight", "kv_usage"):
            raise ConfigError(f"router.metric '{self.metric}' is unknown; allowed: in_flight, kv_usage")
        if self.max_ongoing is not None and self.max_ongoing < 1:
            raise ConfigError(f"router.max_ongoing must be 1 or more, not {self.max_ongoing}")

    @property
    def needs(self) -> frozenset[str]:
        """Scraped gauges only where KV usage is compared."""
        return frozenset({"scrape"}) if self.metric == "kv_usage" else frozenset()

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The better one of two."""
        pair = self._pair(view)
        if self.max_ongoing is not None:
            pair = [i for i in pair if view.in_flight[i] < self.max_ongoing]
        if not pair:
            return HOLD
        metric = view.in_flight if self.metric == "in_flight" else view.kv_usage
        return pair[0] if len(pair) == 1 or metric[pair[0]] <= metric[pair[1]] else pair[1]

    def _pair(self, view: ClusterView) -> list[int]:
        n = len(view)
        first = int(self._rng.random() * n)
        second = int(self._rng.random() * (n - 1))
        second += second >= first
        if n > 1 and view.available[first] and view.available[second]:
            return [first, second]
        up = view.available.nonzero()[0].tolist()
        if len(up) < 2:
            return up
        a = int(self._rng.random() * len(up))
        b = int(self._rng.random() * (len(up) - 1))
        return [up[a], up[b + (b >= a)]]
