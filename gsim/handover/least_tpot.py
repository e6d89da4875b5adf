"""The decode instance that decodes fastest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gsim.core import HOLD, ClusterView, Decision, Request, register
from gsim.handover.paces import tpot_with_one_more
from gsim.handover.transfer import Transfer


@register("handover", "least_tpot")
@dataclass(frozen=True)
class LeastTpot(Transfer):
    """The smallest predicted TPOT, with the requests on their way and this one counted in (ties: the lower index).

    Learned TPOT (S6) plus the nominal growth per request. Source: the decode rule of llm-d's predicted-latency mode.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"estimates"})

    def next(self, request: Request, source: int, view: ClusterView) -> Decision:
        """The fastest instance."""
        if not view.available.any():
            return HOLD
        return int(np.where(view.available, tpot_with_one_more(view), np.inf).argmin())
