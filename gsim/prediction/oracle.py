"""The truth: what no real predictor can reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gsim.core import Job, Request, register
from gsim.core.view import Floats
from gsim.prediction.overrun import overrun
from gsim.prediction.spread import certain


@register("predictor", "oracle")
@dataclass
class OraclePredictor:
    """The true output length (a declared oracle: an upper limit for what prediction can bring).

    Knows a request from ``reveal`` until ``observe``; asked about one that it was never shown, it says ``max_tokens``.
    """

    _truth: dict[int, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def reveal(self, job: Job) -> None:
        """Be shown the truth of one job."""
        self._truth[job.request.request_id] = job.output_tokens

    def predict(self, request: Request, generated_tokens: int = 0) -> float:
        """The true total."""
        return overrun(float(self._truth.get(request.request_id, request.max_output_tokens)), generated_tokens)

    def predict_quantiles(self, request: Request, generated_tokens: int = 0) -> list[float]:
        """The truth, for sure."""
        return certain(self.predict(request, generated_tokens))

    def observe(self, request: Request, output_tokens: int) -> None:
        """The request is over: forget it."""
        self._truth.pop(request.request_id, None)

    def repredict(self, requests: Sequence[Request], generated_tokens: np.ndarray, first: np.ndarray) -> Floats:
        """What was predicted first is the truth already."""
        return np.asarray(np.maximum(first, np.asarray(generated_tokens) + 1.0), dtype=np.float64)
