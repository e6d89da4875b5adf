"""Smallest predicted latency (GoodServe without just-enough)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from gsim.core import ClusterView, Decision, Request, register
from gsim.core.view import Floats
from gsim.routing.choice import lowest, nothing, scratch
from gsim.routing.latency import predicted_latency


@register("router", "fastest")
@dataclass
class Fastest:
    """argmin T_i with T = q + p * L_in + d * L_out, L_out predicted; ties: the lowest index.

    State: learned estimates (S6) and the length predictor. Source: the ablation of GoodServe (arXiv 2605.16867) that
    predicts but does not hold back; Llumnix v1 and AIBrix ``least-latency`` are its relatives.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"estimates", "prediction"})
    _latency: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The instance that is expected to finish it first."""
        self._latency = latency = scratch(self._latency, len(view))
        predicted_latency(view, request.prompt_tokens, view.predict(request), latency)
        return lowest(latency, view.available)
