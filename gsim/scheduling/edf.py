"""Earliest deadline first."""

from __future__ import annotations

from dataclasses import dataclass

from gsim.core import register
from gsim.core.scheduling import EngineCard, EngineRequest


@register("scheduler", "edf")
@dataclass
class EarliestDeadline:
    """Earliest deadline first: key = deadline.

    Preempted, where blocks run out, is who has the latest one. Needs no prediction. No state. Starvation: none, a
    deadline stays while time goes on, so a request waits at most for those whose deadlines come before its own; one
    that has missed its deadline is served first, which beyond capacity costs those that could still be in time
    (least_laxity with ``drop_late`` puts it last). Source: Liu and Layland, J. ACM 20(1), 1973.
    """

    def queue_key(self, request: EngineRequest, card: EngineCard) -> float:
        """The deadline."""
        return request.deadline_s
