"""No rectifier: requests stay where the router put them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gsim.core import ActiveRequests, ClusterView, Migration, register


@register("rectifier", "none")
@dataclass(frozen=True)
class NoRectifier:
    """Nobody moves: the ablation's baseline."""

    needs: ClassVar[frozenset[str]] = frozenset()
    interval_s: ClassVar[float] = math.inf

    def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
        """No moves."""
        return ()
