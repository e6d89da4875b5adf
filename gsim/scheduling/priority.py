"""By the client's priority."""

from __future__ import annotations

from dataclasses import dataclass

from gsim.core import register
from gsim.core.scheduling import EngineCard, EngineRequest


@register("scheduler", "priority")
@dataclass
class Priority:
    """By ``Request.priority``, lower first, then by submission: vLLM's second policy.

    Preempted is who has the highest number. No state. Starvation: a low priority may wait for as long as higher ones
    come. Source: vLLM 0.32, ``v1/core/sched/request_queue.py``; step-identical to recorded schedules of vLLM.
    """

    def queue_key(self, request: EngineRequest, card: EngineCard) -> float:
        """The priority."""
        return float(request.priority)
