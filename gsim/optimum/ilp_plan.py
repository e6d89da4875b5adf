"""The plan as a router: what was decided before the run is replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from gsim.core import HOLD, REJECT, ClusterView, Decision, Request, register


@register("router", "ilp_plan")
@dataclass
class IlpPlan:
    """Replays an assignment made with all knowledge: a reference, not a policy.

    The study hands it the plan (``assign``) before the run. A request that the plan refuses is rejected; one that it
    does not name, or whose instance is down, goes to the available instance with the least in-flight requests per
    nominal tokens per second (ties: the lowest index).
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    offline: ClassVar[bool] = True
    """It decides before the run, not from what it sees."""
    _plan: dict[int, int | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    def assign(self, plan: Mapping[int, int | None]) -> None:
        """Follow ``plan`` from now on: request id -> instance, None to refuse."""
        self._plan = dict(plan)

    def route(self, request: Request, view: ClusterView) -> Decision:
        """What the plan says."""
        planned = self._plan.get(request.request_id, -1)
        if planned is None:
            return REJECT
        if 0 <= planned < len(view) and view.available[planned]:
            return planned
        up = view.available.nonzero()[0]
        if not len(up):
            return HOLD
        return int(up[(view.in_flight[up] / view.static.nominal_tokens_per_s[up]).argmin()])
