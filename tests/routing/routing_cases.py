"""Pools and requests for the routers' tests: those of the contract, at time 0, with signals of the test's own."""

from __future__ import annotations

from typing import Any

from gsim.contract.cases import TPOT_S, busy_view, idle_pool, request
from gsim.core import ClusterView

__all__ = ["TPOT_S", "busy_view", "idle_view", "request"]


def idle_view(n: int = 4, **signals: Any) -> ClusterView:
    """An idle pool; ``signals`` overwrite arrays or functions of the view."""
    view = ClusterView.of(idle_pool(n))
    view.predict = lambda request: 200.0
    for name, value in signals.items():
        if callable(value):
            setattr(view, name, value)
        else:
            getattr(view, name)[:] = value
    return view
