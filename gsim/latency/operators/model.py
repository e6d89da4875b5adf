"""The operator kind: an iteration put together from measured operators of one decoder layer.

    seconds = overhead + outer(T) + layers * (dense(T) + experts(T) + attention) + communication(T) + head(S)

T are the tokens of the iteration, padded up to the next captured CUDA graph where there is one, S its sequences.
Experts are there where the model has them (``experts.py``), communication where it is on several cards: the tables of
one card hold none.
Attention is measured jointly for a chunk and the decodes beside it. Decodes of unlike context take
``t_mean + alpha (t_max - t_mean)``, attention at their mean and at their longest context. Operators are measured one by
one: each pays for its launch and for filling the memory pipeline, which back-to-back execution hides, and none for the
engine around them. What is left of the two is ``overhead``, and may be negative.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from gsim.core.batch import Batch
from gsim.core.errors import ProfileError
from gsim.latency.communication import NO_COMMUNICATION, Communication
from gsim.latency.domain import Domain
from gsim.latency.operators.beyond import continued, line_at
from gsim.latency.operators.experts import Activation
from gsim.latency.operators.tables import (
    SKEW_BORDERS,
    OperatorTables,
    bracket,
)
from gsim.latency.roofline import UNBOUNDED_ITERATIONS
from gsim.latency.row import DecodeRow


def default_capture_sizes(max_num_seqs: int) -> tuple[int, ...]:
    """Token counts for which vLLM captures CUDA graphs by default: 1, 2, 4, then every 8 to 256, every 16 to 512.

    Source: vLLM's compilation configuration (0.11 and later); at most twice ``max_num_seqs``.
    """
    sizes = (1, 2, 4, *range(8, 256, 8), *range(256, 513, 16))
    return tuple(size for size in sizes if size <= 2 * max_num_seqs)


@final
@dataclass(frozen=True)
class OperatorModel:
    """Iteration times from operator tables, with CUDA graph padding, skew correction and an explicit overhead."""

    needs_max_context: ClassVar[bool] = True

    domain: Domain
    tables: OperatorTables = field(repr=False)
    layers: int
    capture_sizes: tuple[int, ...] = ()
    """Token counts with a captured CUDA graph: smaller iterations are padded up. Empty: eager execution."""
    unsplit_from: int = 0
    """Sequences from which decode attention no longer splits a sequence over processors; 0: not known."""
    overhead_s: float = 0.0
    """Per iteration, beside the sum of its operators: what the engine adds (scheduling that is not hidden behind the
    GPU), less what operators save by running back to back. 0: the plain sum."""
    activation: Activation | None = None
    """How many experts a batch activates, where the model has experts."""
    communication: Communication = NO_COMMUNICATION
    """What the cards of an instance say to each other in an iteration."""
    _decode: dict[int, tuple[float, DecodeRow, tuple[float, ...]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """By batch size, when first asked for: time without attention, attention by mean context, alpha by skew band."""
    _alpha_by_chunk: dict[tuple[int, int], tuple[float, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _mixed: list[list[list[list[float]]]] = field(default_factory=list, init=False, repr=False, compare=False)
    _axes: tuple[tuple[int, ...], ...] = field(default=(), init=False, repr=False, compare=False)
    """Of ``_mixed``: chunk, context behind it, decodes, their context; continued to the domain's limit."""
    _batches: tuple[int, ...] = field(default=(), init=False, repr=False, compare=False)
    _batch_s: list[np.ndarray] = field(default_factory=list, init=False, repr=False, compare=False)
    """Attention of pure decodes by batch size, continued as well."""
    _dense_s: list[float] = field(default_factory=list, init=False, repr=False, compare=False)
    _head_s: list[float] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.layers < 1 or not math.isfinite(self.overhead_s):
            raise ProfileError(f"{self.domain.profile}: layers must be at least 1, overhead_s a finite number")
        tables = self.tables
        # Plain lists: a mixed iteration reads a handful of points, which costs NumPy more than it does.
        limit = self.domain.limit
        axes = [tables.chunks, (0, *tables.prefill_contexts), (0, *tables.decodes), tables.decode_contexts]
        ends = (limit.batch_tokens, limit.context_tokens, limit.sequences, limit.context_tokens)
        mixed_s = tables.mixed_s
        for i, end in enumerate(ends):
            axes[i], mixed_s = continued(axes[i], mixed_s, i, end)
        self._mixed.extend(mixed_s.tolist())
        object.__setattr__(self, "_axes", tuple(axes))
        batches, decode_s = continued(tables.decodes, tables.decode_s, 0, limit.sequences)
        object.__setattr__(self, "_batches", batches)
        self._batch_s.extend(decode_s)
        sequences = np.arange(self.domain.limit.sequences + 1)
        self._head_s.extend(line_at(tables.sequences, tables.head_s, sequences).tolist())
        tokens = np.arange(self.domain.limit.batch_tokens + 1)
        sizes = np.array((0, *self.capture_sizes))
        padded = np.where(tokens <= sizes[-1], sizes[np.searchsorted(sizes, np.minimum(tokens, sizes[-1]))], tokens)
        dense = line_at(tables.tokens, self.layers * tables.dense_layer_s, padded)
        if tables.experts is not None:
            if self.activation is None:
                raise ProfileError(f"{self.domain.profile}: a table of experts needs to know how many are activated")
            # Padding activates nothing: it computes on whatever its slots held.
            activated = self.activation.at(np.maximum(tokens, 1).astype(np.float64))
            dense = dense + self.layers * tables.experts.at(padded.astype(np.float64), activated)
        dense = dense + self.communication.at(padded.astype(np.float64))
        self._dense_s.extend((self.overhead_s + dense + line_at(tables.tokens, tables.dense_outer_s, padded)).tolist())
        if min(self._dense_s) + min(self._head_s) <= 0.0:
            raise ProfileError(
                f"{self.domain.profile}: overhead_s of {self.overhead_s:g} leaves iterations without any time"
            )

    @property
    def least_s(self) -> float:
        """What an iteration takes at least, attention aside."""
        return min(self._dense_s) + min(self._head_s)

    def _of(self, sequences: int) -> tuple[float, DecodeRow, tuple[float, ...]]:
        known = self._decode.get(sequences)
        if known is None:
            if not 1 <= sequences <= self.domain.limit.sequences:
                raise self.domain.refuse("sequences", sequences, self.domain.limit.sequences)
            tables = self.tables
            j, part = bracket(self._batches, sequences)
            times = self._batch_s[j] if part == 0.0 else (1 - part) * self._batch_s[j] + part * self._batch_s[j + 1]
            row = DecodeRow(tables.decode_contexts, (self.layers * times).tolist())
            known = self._decode[sequences] = (
                self._dense_s[sequences] + self._head_s[sequences],
                row,
                self._alphas(0, sequences),
            )
        return known

    def _alphas(self, chunk: int, sequences: int) -> tuple[float, ...]:
        """Alpha by band of the skew rate; a batch of one has no skew.

        What a long sequence adds is its tail, when the others are done: the same time in any batch. So between measured
        sizes alpha times the size is interpolated, not alpha. That changes at the size from which the kernel no longer
        splits a sequence over processors: nothing is interpolated across it.
        """
        tables = self.tables
        if sequences < 2:
            return (0.0,) * (len(SKEW_BORDERS) + 1)
        i = min(bisect_left(tables.skew_chunks, chunk), len(tables.skew_chunks) - 1) if chunk else 0
        places = range(len(tables.skew_decodes))
        if not chunk and self.unsplit_from:
            unsplit = self._padded(sequences) >= self.unsplit_from
            places_here = [j for j in places if (tables.skew_decodes[j] >= self.unsplit_from) == unsplit]
            places = range(places_here[0], places_here[-1] + 1) if places_here else places
        sizes = [tables.skew_decodes[j] for j in places]
        excess = [tables.alpha[i, j] * tables.skew_decodes[j] for j in places]
        j, part = bracket(sizes, min(max(sequences, sizes[0]), sizes[-1]))
        at = excess[j] if part == 0.0 else (1 - part) * excess[j] + part * excess[j + 1]
        return tuple(np.minimum(at / sequences, 1.0).tolist())

    def _padded(self, sequences: int) -> int:
        """The size of the captured graph that a pure decode of this size runs in."""
        j = bisect_left(self.capture_sizes, sequences)
        return self.capture_sizes[j] if j < len(self.capture_sizes) else sequences

    def _check(self, tokens: int, longest: int) -> None:
        limit = self.domain.limit
        if tokens > limit.batch_tokens:
            raise self.domain.refuse("batch_tokens", tokens, limit.batch_tokens)
        if longest > limit.context_tokens:
            raise self.domain.refuse("context_tokens", longest, limit.context_tokens)

    def iteration_s(self, batch: Batch) -> float:
        """Seconds of one iteration (> 0); raises ``ProfileError`` outside the profile's domain."""
        chunks, decodes, context_tokens, longest = batch
        if chunks:
            return self._mixed_s(batch)
        if decodes < 1:
            raise ProfileError(f"{self.domain.profile}: an iteration without any sequence takes no time")
        self._check(decodes, longest)
        base_s, row, alphas = self._of(decodes)
        mean = context_tokens / decodes
        mean_s = row.at(mean)
        if longest <= mean:
            return base_s + mean_s
        alpha = alphas[bisect_left(SKEW_BORDERS, 1.0 - mean / longest)]
        return base_s + mean_s + alpha * (row.at(longest) - mean_s)

    def _mixed_s(self, batch: Batch) -> float:
        chunks, decodes, context_tokens, longest = batch
        prefill = sum(chunk.tokens for chunk in chunks)
        self._check(prefill + decodes, max(longest, *(c.tokens + c.context_tokens for c in chunks)))
        base_s = self._dense_s[prefill + decodes] + self._head_s[min(decodes + len(chunks), len(self._head_s) - 1)]
        mean = context_tokens / decodes if decodes else 0.0
        if decodes < 2 or longest <= mean:
            return base_s + self.layers * self._attention_s(batch, prefill, (mean,))[0]
        mean_s, longest_s = self._attention_s(batch, prefill, (mean, float(longest)))
        alpha = self._chunk_alphas(prefill, decodes)[bisect_left(SKEW_BORDERS, 1.0 - mean / longest)]
        return base_s + self.layers * (mean_s + alpha * (longest_s - mean_s))

    def _chunk_alphas(self, chunk: int, sequences: int) -> tuple[float, ...]:
        key = (bisect_left(self.tables.skew_chunks, chunk), sequences)
        known = self._alpha_by_chunk.get(key)
        if known is None:
            known = self._alpha_by_chunk[key] = self._alphas(chunk, sequences)
        return known

    def _attention_s(self, batch: Batch, prefill: int, contexts: tuple[float, ...]) -> list[float]:
        """Attention of one layer at some contexts: all chunks as the one that attends to as many pairs of tokens."""
        pairs = sum(tokens * (2 * behind + tokens) for tokens, behind in batch.chunks)
        behind = 0.5 * (pairs / prefill - prefill)
        joint = self._joint_s(prefill, max(behind, 0.0), batch.decodes, contexts)
        if behind >= 0.0:
            return joint
        # Many short prompts attend to less than one of their joint length: the slope at no context takes it off.
        less = self._joint_s(prefill, -behind, batch.decodes, contexts)
        return [max(2.0 * here - there, 0.5 * here) for here, there in zip(joint, less)]

    def _joint_s(self, chunk: int, behind: float, decodes: int, contexts: tuple[float, ...]) -> list[float]:
        """Attention of one layer for one chunk and decodes: linear in all four directions of the table."""
        chunk_axis, behind_axis, decodes_axis, context_axis = self._axes
        i, u = bracket(chunk_axis, chunk)
        j, v = bracket(behind_axis, behind)
        k, w = bracket(decodes_axis, decodes)
        corners = [
            (p * q * r, self._mixed[i + di][j + dj][k + dk])
            for di, p in ((0, 1.0 - u), (1, u))
            if p
            for dj, q in ((0, 1.0 - v), (1, v))
            if q
            for dk, r in ((0, 1.0 - w), (1, w))
            if r
        ]
        times = []
        for context in contexts:
            m, x = bracket(context_axis, context)
            time_s = sum(weight * row[m] for weight, row in corners)
            if x:
                time_s += x * (sum(weight * row[m + 1] for weight, row in corners) - time_s)
            times.append(time_s)
        return times

    def decode_run_s(self, sequences: int, context_tokens: int, max_context_tokens: int, iterations: int) -> float:
        """Seconds of ``iterations`` pure-decode iterations in a row.

        Longest less mean context does not change in a run, so the skew rate only falls: the run is cut where it passes
        from one band to the next, and each piece is two closed sums.
        """
        base_s, row, alphas = self._of(sequences)
        mean = context_tokens / sequences
        if max_context_tokens <= mean:
            return iterations * base_s + row.run_s(mean, iterations)
        total_s = iterations * base_s
        done = 0
        while done < iterations:
            band = bisect_left(SKEW_BORDERS, 1.0 - (mean + done) / (max_context_tokens + done))
            end = iterations
            if band > 0:
                end = min(iterations, max(done + 1, self._band_end(mean, max_context_tokens, band)))
            n = end - done
            mean_s = row.run_s(mean + done, n)
            total_s += mean_s + alphas[band] * (row.run_s(max_context_tokens + done, n) - mean_s)
            done = end
        return total_s

    @staticmethod
    def _band_end(mean: float, longest: int, band: int) -> int:
        """The first iteration whose skew rate is in a lower band."""
        gap = longest - mean
        i = max(0, math.floor(gap / SKEW_BORDERS[band - 1] - longest) - 1)
        # The comparison that iteration_s makes decides, not the rounded quotient.
        while bisect_left(SKEW_BORDERS, 1.0 - (mean + i) / (longest + i)) >= band:
            i += 1
        return i

    def decode_run_iterations(self, sequences: int, context_tokens: int, max_context_tokens: int, span_s: float) -> int:
        """The largest number of iterations whose ``decode_run_s`` is at most ``span_s``: secant steps, then by one."""
        if span_s == math.inf:
            return UNBOUNDED_ITERATIONS

        def run_s(n: int) -> float:
            return self.decode_run_s(sequences, context_tokens, max_context_tokens, n)

        low, high = 0, 1
        while run_s(high) <= span_s:
            low, high = high, 2 * high + int((span_s - run_s(high)) / (run_s(high) - run_s(high - 1)) * 0.5)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if run_s(middle) <= span_s else (low, middle)
        return low
