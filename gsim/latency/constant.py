"""The constant kind: every iteration takes the same time. For verification against queueing theory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

from gsim.core.batch import Batch
from gsim.core.errors import ProfileError
from gsim.latency.roofline import UNBOUNDED_ITERATIONS


@final
@dataclass(frozen=True, slots=True)
class ConstantTime:
    """Every iteration takes ``iteration_time_s``, whatever is in the batch."""

    needs_max_context: ClassVar[bool] = False

    iteration_time_s: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.iteration_time_s) and self.iteration_time_s > 0.0):
            raise ProfileError(f"iteration_time_s must be a finite number above 0, not {self.iteration_time_s}")

    def iteration_s(self, batch: Batch) -> float:
        """The constant."""
        return self.iteration_time_s

    def decode_run_s(self, sequences: int, context_tokens: int, max_context_tokens: int, iterations: int) -> float:
        """``iterations`` times the constant."""
        return iterations * self.iteration_time_s

    def decode_run_iterations(self, sequences: int, context_tokens: int, max_context_tokens: int, span_s: float) -> int:
        """How often the constant fits into ``span_s``."""
        if span_s == math.inf:
            return UNBOUNDED_ITERATIONS
        n = max(0, int(span_s / self.iteration_time_s))
        while n > 0 and n * self.iteration_time_s > span_s:
            n -= 1
        while (n + 1) * self.iteration_time_s <= span_s:
            n += 1
        return n
