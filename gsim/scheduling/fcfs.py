"""First come, first served."""

from __future__ import annotations

from dataclasses import dataclass

from gsim.core import register
from gsim.core.scheduling import EngineCard, EngineRequest


@register("scheduler", "fcfs")
@dataclass
class Fcfs:
    """First come, first served: vLLM's own order, and its default.

    Whoever is preempted (the last admitted) returns to the head of the queue. No state. Starvation: none, a request
    waits for those that came before it. Source: vLLM 0.32, ``v1/core/sched/scheduler.py``; the engine has this order
    built in, step-identical to recorded schedules of vLLM.
    """

    def queue_key(self, request: EngineRequest, card: EngineCard) -> float:
        """All alike: the order of submission decides."""
        return 0.0
