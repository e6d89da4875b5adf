"""The plan as a router: what was decided before the run is replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from gsim.core import HOLD, REJECT, ClusterView, Decision, Request, register
from gsim.optimum.plans import PlanConfig


@register("router", "ilp_plan")
@dataclass
class IlpPlan:
    """Replays an assignment made with all knowledge: a reference, not a policy.

    The study makes the plan before the run, with these fields, and hands it over (``assign``). A request that the plan
    refuses is rejected; one that it does not name, or whose instance is down, goes to the available instance with the
    least in-flight requests per nominal tokens per second (ties: the lowest index).
    """

    evaluations: int = 3000
    """Assignments that the local search judges, at most (a limit that stops at the same place on every machine)."""
    budget_s: float = 600.0
    """Wall seconds, at most: a plan that it cuts short differs from machine to machine."""
    starts: tuple[str, ...] = ("goodserve", "least_latency", "fastest", "least_load", "ilp_rolling")
    """Routers whose assignments the search may start from, beside the program's own: the plan is no worse than any."""
    needs: ClassVar[frozenset[str]] = frozenset()
    offline: ClassVar[bool] = True
    """It decides before the run, not from what it sees."""
    _plan: dict[int, int | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _ = self.config

    @property
    def config(self) -> PlanConfig:
        """How long the plan is worked on."""
        return PlanConfig(evaluations=self.evaluations, budget_s=self.budget_s)

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
