"""How many migrations an instance takes part in: a rectifier keeps below its limit, at both ends of each move."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gsim.core import ActiveRequests
from gsim.core.view import Ints


@dataclass
class Slots:
    """Counts moves under way per instance, remembering the target of each (a view shows only where a request is)."""

    per_instance: int
    free: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Moves that each instance can still take part in, as source or target."""
    _targets: dict[int, int] = field(default_factory=dict)

    def refresh(self, active: ActiveRequests, instances: int) -> None:
        """Count what is moving now; forget moves that are over."""
        self.free = np.full(instances, self.per_instance, dtype=np.int64)
        rows = active.moving.nonzero()[0]
        targets: dict[int, int] = {}
        for request_id, source in zip(active.request_id[rows].tolist(), active.instance[rows].tolist(), strict=True):
            ends = {source}
            if request_id in self._targets:
                targets[request_id] = self._targets[request_id]
                ends.add(targets[request_id])
            self.free[[end for end in ends if end >= 0]] -= 1
        self._targets = targets

    def take(self, request_id: int, source: int, target: int) -> None:
        """Count a move that is about to begin."""
        self._targets[request_id] = target
        self.free[source] -= 1
        self.free[target] -= 1
