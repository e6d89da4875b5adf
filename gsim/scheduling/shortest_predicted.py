"""Shortest predicted request first, with ageing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from gsim.core import ConfigError, register
from gsim.core.construct import FloatOrInf
from gsim.core.scheduling import EngineCard, EngineRequest


@register("scheduler", "shortest_predicted")
@dataclass
class ShortestPredicted:
    """Shortest predicted request first, aged: key = arrival + ``ageing`` x predicted seconds of work that is left.

    Work is prefill tokens x prefill time + predicted remaining tokens x TPOT at a reference load. With ``ageing`` = A a
    request overtakes those that came up to A times their difference in work before it, and no others: a request of work
    w waits at most for who comes within A x w seconds of it (0: fcfs by arrival). Preempted is who is last in this
    order. No state. Starvation: bounded by that; with ``inf`` (pure shortest first) the long starve under overload.

    Source: S3 (Jin et al., NeurIPS'23, arXiv 2306.06000) packs batches by predicted length; ageing is this project's.
    Simplified: S3 reserves KV for the predicted length and fills batches by bin packing; here KV is paged, so length
    decides the order alone (``past_future`` is the policy that reserves).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"prediction"})

    ageing: FloatOrInf = 5.0
    """How many seconds of waiting weigh as much as one second of work (``inf``: none do)."""

    def __post_init__(self) -> None:
        if not self.ageing >= 0:
            raise ConfigError(f"scheduler.ageing must be 0 or more (inf: no ageing), not {self.ageing}")

    def queue_key(self, request: EngineRequest, card: EngineCard) -> float:
        """Arrival and weighted work."""
        work_s = card.work_s(request)
        return work_s if math.isinf(self.ageing) else request.arrival_s + self.ageing * work_s
