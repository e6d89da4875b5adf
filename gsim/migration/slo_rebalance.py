"""Llumnix v1's SLO-aware rescheduling: relieve instances near the SLO, empty those far from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gsim.core import ActiveRequests, ClusterView, ConfigError, Migration, register
from gsim.core.construct import FloatOrInf
from gsim.core.view import Floats
from gsim.migration.limits import check_limits
from gsim.migration.slots import Slots


@register("rectifier", "slo_rebalance")
@dataclass
class SloRebalance:
    """Compares each instance's TPOT with the objective, and moves one request per rule and review.

    Mitigation: from the instance with the highest ratio of TPOT to objective, if at ``source_above`` or more, to the
    most loaded instance below ``target_below``. Consolidation: from the least loaded busy instance, if below
    ``consolidate_below``, to the most loaded below ``target_below``. The request with the shortest context moves.
    Ties: the lower index, the older request.
    """

    interval_s: float = 1.0
    """Seconds between two reviews."""
    tpot_slo_s: float | None = None
    """Objective per output token; None: the median over active requests of their E2E SLO per predicted output token."""
    source_above: float = 0.95
    """Mitigate instances whose TPOT is at least this share of the objective."""
    target_below: float = 0.85
    """A target's TPOT must be below this share."""
    consolidate_below: float = 0.60
    """Empty instances whose TPOT is below this share; 0: never."""
    max_inflight: int = 1
    """Migrations that an instance takes part in at a time."""
    max_moves: int = 8
    """Migrations per request."""
    no_return_s: FloatOrInf = 30.0
    """A request does not go back to the instance it came from for this long after a move (inf: never)."""
    needs: ClassVar[frozenset[str]] = frozenset({"scrape", "estimates", "prediction"})
    _slots: Slots = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_limits(self)
        if self.tpot_slo_s is not None and not self.tpot_slo_s > 0:
            raise ConfigError(f"rectifier.tpot_slo_s must be greater than 0, not {self.tpot_slo_s}")
        if not 0 <= self.consolidate_below <= self.target_below <= self.source_above:
            raise ConfigError(
                "rectifier: 0 <= consolidate_below <= target_below <= source_above must hold, not "
                f"{self.consolidate_below}, {self.target_below}, {self.source_above}"
            )
        self._slots = Slots(self.max_inflight)

    def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
        """At most one mitigating and one consolidating move."""
        self._slots.refresh(active, len(view))
        if not len(active):
            return ()
        load = self._load(active, view)
        busy = np.bincount(active.instance[active.instance >= 0], minlength=len(view)) > 0
        moves: list[Migration] = []
        for reason, wanted, rank in (
            ("mitigate", busy & (load >= self.source_above), load),
            ("consolidate", busy & (load < self.consolidate_below), -load),
        ):
            sources = np.flatnonzero(wanted & view.available & (self._slots.free > 0))
            if len(sources):
                source = int(sources[np.argmax(rank[sources])])
                moves += self._move(reason, source, busy, load, active, view)
        return moves

    def _load(self, active: ActiveRequests, view: ClusterView) -> Floats:
        objective_s = self.tpot_slo_s
        if objective_s is None:
            objective_s = float(np.median((active.deadline_s - active.arrival_s) / active.predicted_tokens))
        return view.tpot_s / objective_s

    def _move(
        self,
        reason: str,
        source: int,
        busy: np.ndarray,
        load: Floats,
        active: ActiveRequests,
        view: ClusterView,
    ) -> list[Migration]:
        able = view.available & (self._slots.free > 0) & (load < self.target_below)
        able[source] = False
        if reason == "consolidate":
            # Into a busier instance only: to fill an empty one would undo what the rule is for.
            able &= busy & (load >= load[source])
        targets = np.flatnonzero(able)
        if not len(targets):
            return []
        target = int(targets[np.argmax(load[targets])])
        rows = np.flatnonzero(
            (active.instance == source)
            & ~active.moving
            & (active.moves < self.max_moves)
            & ((active.previous != target) | (view.now_s - active.moved_s >= self.no_return_s))
        )
        context = active.prompt_tokens[rows] + active.generated_tokens[rows]
        room = view.static.kv_capacity_tokens[target] * (1.0 - view.kv_usage[target])
        rows, context = rows[context <= room], context[context <= room]
        if not len(rows):
            return []
        request_id = int(active.request_id[rows[np.argmin(context)]])
        self._slots.take(request_id, source, target)
        return [Migration(request_id, target, reason)]
