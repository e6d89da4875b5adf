"""The parametric kind: a soft roofline, for GPUs with few measured points.

    seconds = overhead + (W^q + (g T)^q)^(1/q) + c D + d C + e S

W is the time to read the weights once, g the compute time of a token (T = prefill and decode tokens of the iteration),
q how sharply the memory-bound regime turns into the compute-bound one; c is a cost per decoding sequence, d per token
of decode context (C, the sum over sequences: reading KV), e per square token of prefill attention. A chunk of p tokens
behind a context of k attends to ``(k + p)^2 - k^2`` square tokens, which sums to the whole prompt's square whatever the
chunking. What chunks and decodes cost one another is ``mixed`` (``MixedCost``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, final

from gsim.core.batch import Batch
from gsim.core.errors import ProfileError
from gsim.latency.domain import Domain, by_fields
from gsim.latency.mixed import PLAIN_SUM, MixedCost

#: More iterations than any run has: the answer for an unbounded span.
UNBOUNDED_ITERATIONS = 2**62


@final
@dataclass(frozen=True)
class SoftRoofline:
    """Iteration times from six coefficients and an explicit engine overhead. All coefficients in seconds."""

    domain: Domain
    weights_s: float
    """W: reading all weights once."""
    token_s: float
    """g: compute time per token through the dense layers."""
    sharpness: float
    """q (>= 1; 1: the two terms add, large: the larger one alone)."""
    sequence_s: float
    """c: per decoding sequence."""
    context_token_s: float
    """d: per token of decode context."""
    square_token_s: float
    """e: per square token of prefill attention."""
    overhead_s: float = 0.0
    """CPU time of the engine per iteration that the source did not time (scheduling, sampling)."""
    mixed: MixedCost = PLAIN_SUM
    _decode_s: list[float] = field(default_factory=list, init=False, repr=False, compare=False)
    """Everything that does not depend on context, by decoding sequences: computed once."""

    def __post_init__(self) -> None:
        for name in ("token_s", "sequence_s", "context_token_s", "square_token_s", "overhead_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ProfileError(f"{self.domain.profile}: {name} must be a finite number, 0 or more, not {value}")
        if not (math.isfinite(self.weights_s) and self.weights_s > 0.0):
            raise ProfileError(
                f"{self.domain.profile}: weights_s must be a finite number above 0, not {self.weights_s}"
            )
        if not (math.isfinite(self.sharpness) and self.sharpness >= 1.0):
            raise ProfileError(f"{self.domain.profile}: sharpness must be 1 or more, not {self.sharpness}")
        self._decode_s.extend(
            self.overhead_s + self._dense_s(d) + self.sequence_s * d for d in range(self.domain.limit.sequences + 1)
        )

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return by_fields(self)

    def _dense_s(self, tokens: int) -> float:
        # The larger term is factored out, so that a high power neither overflows nor underflows.
        compute_s = self.token_s * tokens
        low, high = sorted((compute_s, self.weights_s))
        return high * math.pow(1.0 + math.pow(low / high, self.sharpness), 1.0 / self.sharpness)

    def _decode_floor_s(self, sequences: int) -> float:
        if not 0 <= sequences < len(self._decode_s):
            raise self.domain.refuse("sequences", sequences, self.domain.limit.sequences)
        return self._decode_s[sequences]

    def iteration_s(self, batch: Batch) -> float:
        """Seconds of one iteration (> 0); raises ``ProfileError`` outside the profile's domain."""
        chunks, decodes, context_tokens, longest = batch
        if not chunks:
            if decodes < 1:
                raise ProfileError(f"{self.domain.profile}: an iteration without any sequence takes no time")
            if longest > self.domain.limit.context_tokens:
                raise self.domain.refuse("context_tokens", longest, self.domain.limit.context_tokens)
            return self._decode_floor_s(decodes) + self.context_token_s * context_tokens
        tokens = decodes
        square_tokens = 0
        for chunk_tokens, chunk_context in chunks:
            tokens += chunk_tokens
            square_tokens += chunk_tokens * (2 * chunk_context + chunk_tokens)
            longest = max(longest, chunk_context + chunk_tokens)
        limit = self.domain.limit
        if tokens > limit.batch_tokens:
            raise self.domain.refuse("batch_tokens", tokens, limit.batch_tokens)
        if longest > limit.context_tokens:
            raise self.domain.refuse("context_tokens", longest, limit.context_tokens)
        return (
            self.overhead_s
            + self._dense_s(tokens)
            + self.sequence_s * decodes
            + self.context_token_s * context_tokens * self.mixed.kv_factor
            + self.square_token_s * square_tokens
            + (self.mixed.iteration_s if decodes else 0.0)
        )

    def decode_run_s(self, sequences: int, context_tokens: int, max_context_tokens: int, iterations: int) -> float:
        """Seconds of ``iterations`` pure-decode iterations in a row, in closed form (an arithmetic series)."""
        grown = context_tokens + 0.5 * sequences * (iterations - 1)
        return iterations * (self._decode_floor_s(sequences) + self.context_token_s * grown)

    def decode_run_iterations(self, sequences: int, context_tokens: int, max_context_tokens: int, span_s: float) -> int:
        """The largest number of iterations whose ``decode_run_s`` is at most ``span_s``: root of a quadratic."""
        if span_s == math.inf:
            return UNBOUNDED_ITERATIONS
        half_growth = 0.5 * self.context_token_s * sequences
        first_s = self._decode_floor_s(sequences) + self.context_token_s * context_tokens - half_growth
        n = int(
            2.0 * max(span_s, 0.0) / (first_s + math.sqrt(first_s * first_s + 4.0 * half_growth * max(span_s, 0.0)))
        )
        # The root is exact up to rounding; the definition decides.
        while n > 0 and self.decode_run_s(sequences, context_tokens, max_context_tokens, n) > span_s:
            n -= 1
        while self.decode_run_s(sequences, context_tokens, max_context_tokens, n + 1) <= span_s:
            n += 1
        return n
