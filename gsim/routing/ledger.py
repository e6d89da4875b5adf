"""What a router itself has sent where: an amount per instance, kept by the router's own count."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gsim.core import ClusterView
from gsim.core.view import Floats


@dataclass
class Ledger:
    """Sums what requests in flight stand for (prompt tokens, load shares) per instance.

    A router learns of what it sent (``placed``) and of what finished, but not of what failed or was refused. So an
    instance with nothing in flight is set back to 0 (``heal``), and what was booked on it before no longer counts.
    """

    amount: Floats = field(default_factory=lambda: np.zeros(0))
    _of: dict[int, tuple[int, float, int]] = field(default_factory=dict)
    _epoch: list[int] = field(default_factory=list)

    def add(self, request_id: int, instance: int, amount: float) -> None:
        """Book ``amount`` for a request on an instance (and nowhere else from now on)."""
        self.remove(request_id)
        self._grow(instance + 1)
        self.amount[instance] += amount
        self._of[request_id] = (instance, amount, self._epoch[instance])

    def remove(self, request_id: int) -> None:
        """The request is over, or elsewhere."""
        booked = self._of.pop(request_id, None)
        if booked is not None and booked[2] == self._epoch[booked[0]]:
            self.amount[booked[0]] -= booked[1]

    def heal(self, view: ClusterView) -> None:
        """Forget what is booked on instances that have nothing in flight; makes room for one entry per instance."""
        self._grow(len(view))
        stale = ((view.in_flight == 0) & (self.amount != 0.0)).nonzero()[0]
        if len(stale):
            self.amount[stale] = 0.0
            for instance in stale.tolist():
                self._epoch[instance] += 1

    def _grow(self, n: int) -> None:
        missing = n - len(self.amount)
        if missing > 0:
            self.amount = np.concatenate([self.amount, np.zeros(missing)])
            self._epoch += [0] * missing
