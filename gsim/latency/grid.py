"""The iteration kind: measured times of whole iterations, decode by batch and context, prefill by tokens and context.

A mixed iteration is put together so that it is exact at both ends: dense work of all its tokens, attention of every
chunk, and what a decode of that batch and context takes beyond the dense work of its tokens:

    dense(P + D) + sum over chunks of attention(p, k) + max(0, decode(D, C / D) - dense(D))

``dense(T)`` is the prefill time of T tokens less their own attention, ``square_token_s`` times T^2. What parts cost one
another is left out of their sum; ``mixed`` (``MixedCost``) adds it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, final

import numpy as np

from gsim.core.batch import Batch
from gsim.core.errors import ProfileError
from gsim.latency.domain import Domain, Extent, by_fields
from gsim.latency.mixed import PLAIN_SUM, MixedCost
from gsim.latency.row import DecodeRow, end_slope

#: Kernels of one GPU may be a little faster on a larger problem (another tile); a larger fall is a broken table.
_LARGEST_FALL = 0.15


def check_axis(name: str, axis: Sequence[float], where: str) -> None:
    """Raise ``ProfileError`` unless ``axis`` rises strictly."""
    for i, (a, b) in enumerate(pairwise(axis)):
        if b <= a:
            raise ProfileError(
                f"{where}: {name} must rise from point to point, but {name}[{i + 1}] is {b:g} after {a:g}"
            )


def check_rising(name: str, axis: Sequence[float], times: Sequence[float], where: str, fixed: str = "") -> None:
    """Raise ``ProfileError`` where times are not positive, or fall by more than a kernel's change of tile explains."""
    for i, time in enumerate(times):
        if not time > 0.0:
            raise ProfileError(f"{where}: the time at {name} {axis[i]:g}{fixed} must be above 0, not {time}")
        if i and time < times[i - 1] * (1.0 - _LARGEST_FALL):
            raise ProfileError(
                f"{where}: times must not fall as {name} grows: {times[i - 1]:g} at {axis[i - 1]:g} but {time:g} at "
                f"{axis[i]:g}{fixed} (a fall of up to {_LARGEST_FALL:.0%} is allowed)"
            )


def interpolate(axis: Sequence[float], values: Sequence[float], x: float) -> float:
    """Linear between points; beyond the last never falling (``end_slope``), below the first constant."""
    if x <= axis[0] or len(axis) == 1:
        return values[0]
    if x > axis[-1]:
        return values[-1] + end_slope(axis, values) * (x - axis[-1])
    j = min(bisect_right(axis, x), len(axis) - 1)
    low, high = axis[j - 1], axis[j]
    return values[j - 1] + (values[j] - values[j - 1]) * (x - low) / (high - low)


@final
@dataclass(frozen=True)
class IterationGrid:
    """Iteration times interpolated in measured grids, with an explicit engine overhead. All times in seconds."""

    domain: Domain
    decode_batches: tuple[int, ...]
    """Rising, starting at 1."""
    decode_contexts: tuple[int, ...]
    """Mean tokens of context per sequence, rising."""
    decode_s: tuple[tuple[float, ...], ...]
    """A row per batch size, a column per context."""
    prefill_tokens: tuple[int, ...]
    """Tokens of one prompt or chunk, rising."""
    prefill_contexts: tuple[int, ...]
    """Tokens of the same prompt whose KV exists already; the first is 0."""
    prefill_s: tuple[tuple[float, ...], ...]
    """A row per number of tokens, a column per context."""
    square_token_s: float
    """Prefill attention per square token: splits a prefill time into dense work and attention; where only context 0
    was measured, it also says what a chunk's context costs."""
    overhead_s: float = 0.0
    """CPU time of the engine per iteration that the source did not time (scheduling, sampling)."""
    mixed: MixedCost = PLAIN_SUM
    _rows: dict[int, DecodeRow] = field(default_factory=dict, init=False, repr=False, compare=False)
    _dense_s: list[float] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        where = self.domain.profile
        self._check(where)
        first_s = min(self._row(1).at(0.0) - self.overhead_s, self.prefill_s[0][0])
        knots = [float(tokens) for tokens in self.prefill_tokens]
        dense = [row[0] - self.square_token_s * t * t for t, row in zip(self.prefill_tokens, self.prefill_s)]
        if knots[0] > 1.0:
            knots, dense = [1.0, *knots], [first_s, *dense]
        check_rising("dense tokens", knots, dense, f"{where}: prefill less attention (square_token_ms too large?)")
        tokens = np.arange(self.domain.limit.batch_tokens + 1, dtype=np.float64)
        table = np.interp(tokens, knots, dense)
        if len(knots) > 1:
            table += np.maximum(tokens - knots[-1], 0.0) * end_slope(knots, dense)
        self._dense_s.extend(table.tolist())

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return by_fields(self)

    def _check(self, where: str) -> None:
        for name, axis, rows, columns in (
            ("decode.batch", self.decode_batches, self.decode_s, self.decode_contexts),
            ("prefill.tokens", self.prefill_tokens, self.prefill_s, self.prefill_contexts),
        ):
            check_axis(name, axis, where)
            check_axis(name.split(".")[0] + ".context", columns, where)
            if len(rows) != len(axis) or any(len(row) != len(columns) for row in rows):
                shape = f"{len(rows)} rows of {sorted({len(row) for row in rows})}"
                raise ProfileError(
                    f"{where}: {name}: there must be {len(axis)} rows of {len(columns)} times, not {shape}"
                )
            for x, row in zip(axis, rows):
                check_rising("context", columns, row, where, f", {name} {x}")
            for j, column in enumerate(columns):
                check_rising(name, axis, [row[j] for row in rows], where, f", context {column}")
        if self.decode_batches[0] != 1 or self.prefill_contexts[0] != 0:
            raise ProfileError(f"{where}: decode.batch must start at 1 and prefill.context at 0")
        if not (self.square_token_s >= 0.0 and self.overhead_s >= 0.0):
            raise ProfileError(f"{where}: square_token_ms and overhead_ms must be 0 or more")

    @property
    def extent(self) -> Extent:
        """The largest iteration that the grids cover: a decode's new token and a chunk's own count too."""
        return Extent(
            self.decode_batches[-1],
            self.prefill_tokens[-1] + self.decode_batches[-1],
            max(self.decode_contexts[-1] + 1, self.prefill_tokens[-1] + self.prefill_contexts[-1]),
        )

    def _row(self, sequences: int) -> DecodeRow:
        """The decode row of a batch size, overhead included, built when first asked for."""
        row = self._rows.get(sequences)
        if row is None:
            if not 1 <= sequences <= self.domain.limit.sequences:
                raise self.domain.refuse("sequences", sequences, self.domain.limit.sequences)
            columns = zip(*self.decode_s)
            times = [self.overhead_s + interpolate(self.decode_batches, column, sequences) for column in columns]
            row = self._rows[sequences] = DecodeRow(self.decode_contexts, times)
        return row

    def _attention_s(self, tokens: int, context: int) -> float:
        """Prefill attention of one chunk."""
        own = self.square_token_s * tokens * tokens
        if context == 0:
            return own
        if len(self.prefill_contexts) == 1:
            return own + self.square_token_s * 2 * context * tokens
        extra = [interpolate(self.prefill_contexts, row, context) - row[0] for row in self.prefill_s]
        if tokens < self.prefill_tokens[0]:
            return own + max(extra[0], 0.0) * tokens / self.prefill_tokens[0]
        return own + max(interpolate(self.prefill_tokens, extra, tokens), 0.0)

    def iteration_s(self, batch: Batch) -> float:
        """Seconds of one iteration (> 0); raises ``ProfileError`` outside the profile's domain."""
        chunks, decodes, context_tokens, longest = batch
        limit = self.domain.limit
        if not chunks:
            if decodes < 1:
                raise ProfileError(f"{self.domain.profile}: an iteration without any sequence takes no time")
            if longest > limit.context_tokens:
                raise self.domain.refuse("context_tokens", longest, limit.context_tokens)
            row = self._rows.get(decodes) or self._row(decodes)
            return row.at(context_tokens / decodes)
        tokens = decodes
        attention_s = 0.0
        for chunk_tokens, chunk_context in chunks:
            tokens += chunk_tokens
            attention_s += self._attention_s(chunk_tokens, chunk_context)
            longest = max(longest, chunk_context + chunk_tokens)
        if tokens > limit.batch_tokens:
            raise self.domain.refuse("batch_tokens", tokens, limit.batch_tokens)
        if longest > limit.context_tokens:
            raise self.domain.refuse("context_tokens", longest, limit.context_tokens)
        total_s = self.overhead_s + self._dense_s[tokens] + attention_s
        if decodes:
            row = self._rows.get(decodes) or self._row(decodes)
            alone_s = row.at(context_tokens / decodes)
            total_s += max(0.0, alone_s - self.overhead_s - self._dense_s[decodes])
            if self.mixed:
                kv_s = max(0.0, alone_s - row.at(0.0))
                total_s += self.mixed.iteration_s + (self.mixed.kv_factor - 1.0) * kv_s
        return total_s

    def decode_run_s(self, sequences: int, context_tokens: int, max_context_tokens: int, iterations: int) -> float:
        """Seconds of ``iterations`` pure-decode iterations in a row (see ``DecodeRow``)."""
        row = self._rows.get(sequences) or self._row(sequences)
        return row.run_s(context_tokens / sequences, iterations)

    def decode_run_iterations(self, sequences: int, context_tokens: int, max_context_tokens: int, span_s: float) -> int:
        """The largest number of iterations whose ``decode_run_s`` is at most ``span_s``."""
        row = self._rows.get(sequences) or self._row(sequences)
        return row.iterations(context_tokens / sequences, span_s)
