"""Least positive headroom, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from gsim.core import HOLD, ClusterView, ConfigError, Decision, Request, register
from gsim.core.view import Floats, Ints
from gsim.routing.choice import Drawing, nothing, scratch
from gsim.routing.latency import predicted_latency

Strategy = Literal["least", "most"]


@register("router", "slo_headroom")
@dataclass
class SloHeadroom(Drawing):
    """An instance with time to spare before the deadline, drawn by how much; where none has, the least late.

    hr_i = time left - T_i. Among hr_i >= 0: drawn with weight 1 - (hr_i - min) / (max - min) (``least``) or its
    complement (``most``). None: idle instances first, then the least deficit.

    With probability ``explore`` the instances without headroom are used though others have it, so that their
    predictions stay fresh. Ties of the deficit: the lowest index.

    State: learned estimates (S6) and the length predictor. Source: llm-d's latency scorer and ``slo-headroom-tier``
    filter (epsilon 1 %), whose latency model without streaming is the E2E latency. Simplified: T comes from the
    estimator instead of an XGBoost sidecar; the prefix-affinity gates in front of the filter are left out.
    """

    strategy: Strategy = "least"
    """``least`` packs requests where they just make it, ``most`` spreads them."""
    explore: float = 0.01
    """Probability of using an instance without headroom though others have some (upstream: 0.01)."""
    needs: ClassVar[frozenset[str]] = frozenset({"estimates", "prediction"})
    _latency: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.strategy not in ("least", "most"):
            raise ConfigError(f"router.strategy '{self.strategy}' is unknown; allowed: least, most")
        if not 0 <= self.explore <= 1:
            raise ConfigError(f"router.explore must be in [0, 1], not {self.explore}")

    def route(self, request: Request, view: ClusterView) -> Decision:
        """A draw among the instances that make it."""
        self._latency = latency = scratch(self._latency, len(view))
        predicted_latency(view, request.prompt_tokens, view.predict(request), latency)
        left_s = request.deadline_s - view.now_s
        makes_it = latency <= left_s
        good = (makes_it & view.available).nonzero()[0]
        bad = (view.available & ~makes_it).nonzero()[0]
        if not len(good) and not len(bad):
            return HOLD
        if not len(good) or (len(bad) and self._rng.random() < self.explore):
            return self._least_deficit(bad, view)
        return self._draw(good, left_s)

    def _least_deficit(self, bad: Ints, view: ClusterView) -> int:
        idle = bad[view.in_flight[bad] == 0]
        chosen = idle if len(idle) else bad
        return int(chosen[self._latency[chosen].argmin()])

    def _draw(self, good: Ints, left_s: float) -> int:
        headroom = left_s - self._latency[good]
        headroom -= headroom.min()
        spread = float(headroom.max())
        if spread == 0.0:
            return int(good[int(self._rng.random() * len(good))])
        weight = headroom / spread
        if self.strategy == "least":
            weight = 1.0 - weight
        cumulative = weight.cumsum()
        return int(good[cumulative.searchsorted(self._rng.random() * cumulative[-1], side="right")])
