"""The decode instance that is just fast enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gsim.core import HOLD, ClusterView, ConfigError, Decision, Request, register
from gsim.handover.paces import tpot_with_one_more
from gsim.handover.transfer import Transfer


@register("handover", "slo")
@dataclass(frozen=True)
class Slo(Transfer):
    """The latest predicted finish that still meets the E2E deadline; where none does, the earliest finish.

    finish_k = now + copy to k + queue at k + tokens to go x TPOT of k with one more. GoodServe's just-enough rule on
    the second leg (``router=ttft_slo`` is its counterpart on the first). Ties: the lower index. State: learned
    estimates (S6), the length predictor, scraped KV usage (which slows copies). Source: this project.
    """

    margin_s: float = 0.0
    """A target must make the deadline with this to spare."""
    needs: ClassVar[frozenset[str]] = frozenset({"scrape", "estimates", "prediction"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.margin_s >= 0:
            raise ConfigError(f"handover.margin_s must be 0 or more, not {self.margin_s}")

    def next(self, request: Request, source: int, view: ClusterView) -> Decision:
        """The slowest instance that is fast enough."""
        targets = np.flatnonzero(view.available)
        if not len(targets):
            return HOLD
        copy_s = view.move_cost_s(request.prompt_tokens, source, targets)
        finish_s = view.now_s + copy_s + view.predict(request) * tpot_with_one_more(view)[targets]
        good = finish_s <= request.deadline_s - self.margin_s
        best = np.where(good, finish_s, -np.inf).argmax() if good.any() else finish_s.argmin()
        return int(targets[best])
