"""Just enough for the first token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gsim.core import ClusterView, ConfigError, Decision, Request, register
from gsim.routing.choice import lowest


@register("router", "ttft_slo")
@dataclass
class TtftSlo:
    """The largest predicted TTFT that still meets the objective; where none does, the smallest. Ties: the lowest index.

    TTFT_i = q_i + p_i * L_in (learned, S6), the objective for the first token counted from the arrival. GoodServe's
    just-enough rule for a prefill leg, whose E2E latency is not the instance's own; ``handover=slo`` is its counterpart
    on the decode leg. State: none. Source: this project.
    """

    ttft_slo_s: float | None = None
    """Objective for the first token; None: a share of the request's E2E objective."""
    ttft_share: float = 0.25
    """That share."""
    needs: ClassVar[frozenset[str]] = frozenset({"estimates"})

    def __post_init__(self) -> None:
        if self.ttft_slo_s is not None and not self.ttft_slo_s > 0:
            raise ConfigError(f"router.ttft_slo_s must be greater than 0, not {self.ttft_slo_s}")
        if not 0 < self.ttft_share <= 1:
            raise ConfigError(f"router.ttft_share must be in (0, 1], not {self.ttft_share}")

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The slowest instance that is fast enough."""
        slo_s = self.ttft_slo_s if self.ttft_slo_s is not None else self.ttft_share * request.slo_s
        ttft_s = view.queue_s + view.prefill_s_per_token * request.prompt_tokens
        good = view.available & (ttft_s <= request.arrival_s + slo_s - view.now_s)
        if good.any():
            return int(np.where(good, ttft_s, -np.inf).argmax())
        return lowest(ttft_s, view.available)
