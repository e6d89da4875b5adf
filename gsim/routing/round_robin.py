"""Round robin."""

from __future__ import annotations

from dataclasses import dataclass, field

from gsim.core import HOLD, ClusterView, Decision, Request, register


@register("router", "round_robin")
@dataclass
class RoundRobin:
    """The instances in turn: i = n++ mod N, skipping those that are down.

    State: none (S0). Source: vLLM production-stack ``roundrobin``. Nothing simplified.
    """

    _next: int = field(default=0, init=False, repr=False)

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The next instance that is up."""
        available = view.available
        n = len(available)
        start = self._next % n
        if available[start]:
            self._next = start + 1
            return start
        after = available[start:].nonzero()[0]
        if len(after):
            chosen = start + int(after[0])
        else:
            chosen = int(available.argmax())
            if not available[chosen]:
                return HOLD
        self._next = chosen + 1
        return chosen
