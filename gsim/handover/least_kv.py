"""The decode instance with most room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gsim.core import HOLD, ClusterView, Decision, Request, register
from gsim.handover.transfer import Transfer


@register("handover", "least_kv")
@dataclass(frozen=True)
class LeastKv(Transfer):
    """The smallest share of KV in use, with what is on its way counted in (scraped; ties: the lower index).

    Source: the usual rule of production routers for decode workers (vLLM production stack, Dynamo, llm-d).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"scrape"})

    def next(self, request: Request, source: int, view: ClusterView) -> Decision:
        """The emptiest instance."""
        return emptiest(view)


def emptiest(view: ClusterView) -> Decision:
    """The available instance with the smallest share of KV in use or on its way; HOLD if there is none."""
    if not view.available.any():
        return HOLD
    usage = view.kv_usage + view.incoming_tokens / view.static.kv_capacity_tokens
    return int(np.where(view.available, usage, np.inf).argmin())
