"""A latency model times a factor."""

from __future__ import annotations

from dataclasses import dataclass

from gsim.core import Batch
from gsim.core.protocols import LatencyModel


@dataclass(frozen=True)
class Scaled:
    """Every iteration takes ``factor`` times what ``latency`` says."""

    latency: LatencyModel
    factor: float

    def iteration_s(self, batch: Batch) -> float:
        """Seconds of one iteration."""
        return self.factor * self.latency.iteration_s(batch)

    def decode_run_s(self, sequences: int, context_tokens: int, max_context_tokens: int, iterations: int) -> float:
        """Seconds of a run of decodes."""
        return self.factor * self.latency.decode_run_s(sequences, context_tokens, max_context_tokens, iterations)

    def decode_run_iterations(self, sequences: int, context_tokens: int, max_context_tokens: int, span_s: float) -> int:
        """How many iterations of a run of decodes end within ``span_s``."""
        return self.latency.decode_run_iterations(sequences, context_tokens, max_context_tokens, span_s / self.factor)
