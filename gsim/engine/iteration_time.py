"""The CPU's share of an iteration: scheduling that a profile does not contain.

Synchronous scheduling: the GPU waits for the scheduler, so an iteration takes the sum. Asynchronous scheduling (vLLM's
default): iteration n + 1 is scheduled while the GPU computes n, so it takes the longer of the two. What is left out of
the asynchronous case: a batch is fixed one iteration early, so an arrival may wait one iteration longer, and a
sequence that stops by itself (not by ``max_tokens``) holds its place for one more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from gsim.core.batch import Batch
from gsim.core.protocols import LatencyModel
from gsim.engine.config import EngineLimits

#: More iterations than any run has.
UNBOUNDED_ITERATIONS = 1 << 62


def needs_max_context(latency: LatencyModel) -> bool:
    """Whether the model looks at the longest context of a batch, and says so (others are spared its bookkeeping)."""
    return bool(getattr(latency, "needs_max_context", False))


def with_scheduling(latency: LatencyModel, limits: EngineLimits) -> LatencyModel:
    """The iteration times of ``latency`` with the engine's own scheduling time in them."""
    if limits.cpu_schedule_s == 0.0:
        return latency
    if limits.async_scheduling:
        return Overlapped(latency, limits.cpu_schedule_s, needs_max_context(latency))
    return Added(latency, limits.cpu_schedule_s, needs_max_context(latency))


@final
@dataclass(frozen=True, slots=True)
class Added:
    """Scheduling, then computing."""

    gpu: LatencyModel
    cpu_s: float
    needs_max_context: bool

    def iteration_s(self, batch: Batch) -> float:
        """The sum."""
        return self.cpu_s + self.gpu.iteration_s(batch)

    def decode_run_s(self, sequences: int, context_tokens: int, max_context_tokens: int, iterations: int) -> float:
        """The sum, so often."""
        return iterations * self.cpu_s + self.gpu.decode_run_s(
            sequences, context_tokens, max_context_tokens, iterations
        )

    def decode_run_iterations(self, sequences: int, context_tokens: int, max_context_tokens: int, span_s: float) -> int:
        """How many fit into ``span_s``."""
        return bisect_iterations(self, sequences, context_tokens, max_context_tokens, span_s)


@final
@dataclass(frozen=True, slots=True)
class Overlapped:
    """Scheduling while computing. Decodes must not become faster as their contexts grow."""

    gpu: LatencyModel
    cpu_s: float
    needs_max_context: bool

    def iteration_s(self, batch: Batch) -> float:
        """The longer of the two."""
        return max(self.cpu_s, self.gpu.iteration_s(batch))

    def decode_run_s(self, sequences: int, context_tokens: int, max_context_tokens: int, iterations: int) -> float:
        """The CPU's time as long as the GPU is faster, then the GPU's."""
        low, high = 0, iterations
        while low < high:
            middle = (low + high) // 2
            grown = Batch((), sequences, context_tokens + sequences * middle, max_context_tokens + middle)
            if self.gpu.iteration_s(grown) > self.cpu_s:
                high = middle
            else:
                low = middle + 1
        rest = iterations - low
        run_s = low * self.cpu_s
        if rest:
            run_s += self.gpu.decode_run_s(sequences, context_tokens + sequences * low, max_context_tokens + low, rest)
        return run_s

    def decode_run_iterations(self, sequences: int, context_tokens: int, max_context_tokens: int, span_s: float) -> int:
        """How many fit into ``span_s``."""
        return bisect_iterations(self, sequences, context_tokens, max_context_tokens, span_s)


def bisect_iterations(
    latency: LatencyModel, sequences: int, context_tokens: int, max_context_tokens: int, span_s: float
) -> int:
    """The largest number of decode iterations that take at most ``span_s``, for a model that can only sum."""
    if span_s == float("inf"):
        return UNBOUNDED_ITERATIONS
    low, high = 0, 1
    while latency.decode_run_s(sequences, context_tokens, max_context_tokens, high) <= span_s:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if latency.decode_run_s(sequences, context_tokens, max_context_tokens, middle) <= span_s:
            low = middle
        else:
            high = middle
    return low
