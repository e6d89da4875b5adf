"""Least laxity first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gsim.core import register
from gsim.core.scheduling import EngineCard, EngineRequest

#: Who is put back comes after everybody who is not, however long a run is.
_LAST_S = 1e9


@register("scheduler", "least_laxity")
@dataclass
class LeastLaxity:
    """Least laxity first: key = deadline - (prefill tokens x prefill time + predicted remaining tokens x TPOT).

    The times are the card's at a reference load, so the key is the latest time at which a request can still start; all
    laxities shrink alike while requests wait, which keeps the order. Preempted is who has the most. No state.
    Starvation: none, as with ``edf``; with ``drop_late`` those that came too late wait for as long as others come.
    Source: Mok, MIT, 1983. Simplified: laxity is not looked at again while a request waits (the speed under the
    present load does not count).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"prediction"})

    drop_late: bool = False
    """Who cannot be in time any more when it comes goes last: it would miss its deadline, and make others miss
    theirs."""

    def queue_key(self, request: EngineRequest, card: EngineCard) -> float:
        """The latest time at which it can go on and be in time."""
        start_s = card.laxity_s(request)
        return start_s + _LAST_S if self.drop_late and start_s < request.submitted_s else start_s
