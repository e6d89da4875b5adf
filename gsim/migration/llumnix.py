"""Llumnix's rebalancing: from the fullest instances to the freest, whatever the deadlines (OSDI 2024)."""

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

_PICKS = ("shortest", "longest", "last_come")


@register("rectifier", "llumnix")
@dataclass
class Llumnix:
    """Pairs instances whose freeness is below a threshold with the freest ones, and moves one request per pair.

    Freeness = (free blocks - blocks that waiting prompts ask for) / requests, the number of iterations that the batch
    can run before memory is full; an idle instance is infinitely free. Pairs are made by sorting: the least free source
    with the freest target, and so on. Ties: the lower index, the older request.
    """

    interval_s: float = 1.0
    """Seconds between two reviews."""
    out_threshold: float = 3.0
    """Instances below this freeness (blocks per request) shed requests; those above it take them."""
    pick: str = "shortest"
    """Which request leaves: ``shortest`` (fewest tokens of context), ``longest`` or ``last_come`` (dispatched last)."""
    max_inflight: int = 1
    """Migrations that an instance takes part in at a time."""
    max_moves: int = 8
    """Migrations per request."""
    no_return_s: FloatOrInf = 30.0
    """A request does not go back to the instance it came from for this long after a move (inf: never)."""
    needs: ClassVar[frozenset[str]] = frozenset({"scrape"})
    _slots: Slots = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_limits(self)
        if self.pick not in _PICKS:
            raise ConfigError(f"rectifier.pick '{self.pick}' is unknown; allowed: {', '.join(_PICKS)}")
        self._slots = Slots(self.max_inflight)

    def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
        """One request per pair of an overloaded and a free instance."""
        self._slots.refresh(active, len(view))
        free = self._slots.free
        freeness = freeness_blocks(view)
        usable = view.available & (free > 0)
        sources = np.flatnonzero(usable & (freeness < self.out_threshold))
        targets = np.flatnonzero(usable & (freeness > self.out_threshold))
        sources = sources[np.argsort(freeness[sources], kind="stable")]
        targets = targets[np.argsort(-freeness[targets], kind="stable")]
        moves: list[Migration] = []
        for source, target in zip(sources.tolist(), targets.tolist(), strict=False):
            row = self._leaver(active, view, source, target)
            if row is not None:
                request_id = int(active.request_id[row])
                self._slots.take(request_id, source, target)
                moves.append(Migration(request_id, target, "rebalance"))
        return moves

    def _leaver(self, active: ActiveRequests, view: ClusterView, source: int, target: int) -> int | None:
        rows = np.flatnonzero(
            (active.instance == source)
            & ~active.moving
            & (active.moves < self.max_moves)
            & (active.generated_tokens > 0)
            & ((active.previous != target) | (view.now_s - active.moved_s >= self.no_return_s))
        )
        context = active.prompt_tokens[rows] + active.generated_tokens[rows]
        room = view.static.kv_capacity_tokens[target] * (1.0 - view.kv_usage[target])
        rows, context = rows[context <= room], context[context <= room]
        if not len(rows):
            return None
        if self.pick == "last_come":
            return int(rows[np.argmax(active.dispatched_s[rows])])
        return int(rows[np.argmin(context) if self.pick == "shortest" else np.argmax(context)])


def freeness_blocks(view: ClusterView) -> Floats:
    """Llumnix's freeness of each instance, in blocks per request; ``inf`` where nothing runs or waits.

    Prompts that have shown no token and are not running ask for their blocks; the gateway knows their tokens, the
    scraped queue length tells which part of them waits.
    """
    block = view.static.block_size
    free = view.static.kv_capacity_tokens * (1.0 - view.kv_usage) / block
    requests = view.running + view.waiting
    unseen = np.maximum(view.in_flight - view.running, 0)
    asked = np.where(unseen > 0, view.in_flight_prefill_tokens / block, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(requests > 0, (free - asked) / requests, np.inf)
