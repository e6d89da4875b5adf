"""Control: every request to the first instance that is up."""

from __future__ import annotations

from dataclasses import dataclass

from gsim.core import HOLD, ClusterView, Decision, Request, register


@register("router", "always_first")
@dataclass
class AlwaysFirst:
    """Control: the lowest index that is available.

    State: none (S0). Source: this project; it shows what a study measures when routing is as bad as it can be.
    """

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The first instance that is up."""
        first = int(view.available.argmax())
        return first if view.available[first] else HOLD
