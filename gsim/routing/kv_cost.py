"""Dynamo's KV router: blocks to prefill plus blocks to decode."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gsim.core import HOLD, ClusterView, Completion, ConfigError, Decision, Request, register
from gsim.core.view import Floats
from gsim.routing.choice import Drawing, lowest_at_random
from gsim.routing.ledger import Ledger


@register("router", "kv_cost")
@dataclass
class KvCost(Drawing):
    """argmin s * max(0, (P_i + L_in - c * h_i) / bs) + B_i + ceil(L_in / bs) + w * F_i; ties at random.

    P_i: prompt tokens in flight without a first token; h_i: matched prompt tokens; B_i: KV blocks of the requests that
    the router has active on i; bs: block size. With a temperature tau > 0 the instance is drawn from the softmax of
    -(cost - min) / ((max - min) * tau).

    State: in-flight requests and tokens (S1), prefix matches (S4 upstream: engine KV events). Source: NVIDIA Dynamo's
    KV router. Simplified: matches come from the gateway's approximate index (Dynamo's own mode without KV events);
    host, disk and shared cache tiers and the decay of the credit (off by default) are left out, and so is the optional
    tracking of output blocks.
    """

    overlap_score_weight: float = 1.0
    """s: what a block to prefill costs, in blocks to decode (upstream: 1)."""
    overlap_credit: float = 1.0
    """c: what a matched token saves (upstream: 1)."""
    request_weight: float = 0.0
    """w: what a request in flight costs (upstream: 0)."""
    temperature: float = 0.0
    """tau: 0 takes the minimum (upstream: 0)."""
    needs: ClassVar[frozenset[str]] = frozenset({"prefix"})
    _held: Ledger = field(default_factory=Ledger, init=False, repr=False, compare=False)
    """Prompt tokens of the active requests."""

    def __post_init__(self) -> None:
        for name in ("overlap_score_weight", "overlap_credit", "request_weight", "temperature"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"router.{name} must be 0 or more, not {getattr(self, name)}")

    def placed(self, request: Request, instance: int) -> None:
        """A request was sent: its prompt will be held there."""
        self._held.add(request.request_id, instance, request.prompt_tokens)

    def observe_completion(self, completion: Completion) -> None:
        """It is over: its blocks are free."""
        self._held.remove(completion.request.request_id)

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The instance where the request costs the fewest blocks."""
        self._held.heal(view)
        prompt, block = request.prompt_tokens, view.static.block_size
        cost: Floats = view.in_flight_prefill_tokens + (prompt - self.overlap_credit * view.prefix_tokens(request))
        np.maximum(cost, 0.0, out=cost)
        cost *= self.overlap_score_weight / block
        cost += self._held.amount / block
        cost += -(-prompt // block)
        if self.request_weight:
            cost += self.request_weight * view.in_flight
        if self.temperature == 0.0:
            return lowest_at_random(cost, view.available, self._rng)
        return self._softmax(cost, view)

    def _softmax(self, cost: Floats, view: ClusterView) -> Decision:
        up = view.available.nonzero()[0]
        if not len(up):
            return HOLD
        cost = cost[up] - cost[up].min()
        spread = float(cost.max()) or 1.0
        cumulative = np.cumsum(np.exp(-cost / (spread * self.temperature)))
        return int(up[cumulative.searchsorted(self._rng.random() * cumulative[-1], side="right")])
