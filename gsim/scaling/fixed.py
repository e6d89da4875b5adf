"""No scaler: the pool stays as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gsim.core import ClusterView, Drain, Slots, Start, register


@register("scaler", "fixed")
@dataclass(frozen=True)
class Fixed:
    """Nothing starts or stops: the pool that is configured, for the whole run."""

    needs: ClassVar[frozenset[str]] = frozenset()
    interval_s: ClassVar[float] = math.inf

    def review(self, slots: Slots, view: ClusterView) -> Sequence[Start | Drain]:
        """No change."""
        return ()
