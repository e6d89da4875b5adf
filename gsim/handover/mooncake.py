"""Mooncake's conductor, its second half: the decode instance, at arrival."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gsim.core import HOLD, REJECT, ClusterView, ConfigError, Decision, Request, register
from gsim.handover.paces import tpot_with_one_more
from gsim.handover.transfer import Transfer


@register("handover", "mooncake")
@dataclass(frozen=True)
class Mooncake(Transfer):
    """The smallest predicted time between tokens, chosen at arrival; where even that misses the objective: refused.

    With ``router=mooncake``, which weighs cached prefixes against queues, this is Mooncake's conductor (FAST 2025,
    algorithm 1), but for replicating hot prefixes. Ties: the lower index. State: learned estimates (S6).
    """

    when: str = "arrival"
    """When the decode instance is chosen: with the prefill instance, at ``arrival``, or at the ``first_token``."""
    tbt_slo_s: float | None = None
    """Refuse requests where the time between tokens would be longer than this; None: refuse none."""
    needs: ClassVar[frozenset[str]] = frozenset({"estimates"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tbt_slo_s is not None and not self.tbt_slo_s > 0:
            raise ConfigError(f"handover.tbt_slo_s must be greater than 0, not {self.tbt_slo_s}")

    def next(self, request: Request, source: int, view: ClusterView) -> Decision:
        """The fastest instance, if it is fast enough."""
        if not view.available.any():
            return HOLD
        tpot_s = np.where(view.available, tpot_with_one_more(view), np.inf)
        best = int(tpot_s.argmin())
        if self.tbt_slo_s is not None and tpot_s[best] > self.tbt_slo_s:
            return REJECT
        return best
