"""From raw measurements to the grids of an iteration profile.

Every cell is the median of its repeats. Cells that did not fit the server (a large batch at a long context) are
continued from their neighbours and counted: a profile says how many of its cells are not measured.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsim.calibration.raw import Measurement
from gsim.core.errors import InputError
from gsim.latency import Domain
from gsim.latency.grid import IterationGrid
from gsim.latency.mixed import PLAIN_SUM, MixedCost

Floats = NDArray[np.float64]

#: A larger problem that is measured this much faster than a smaller one is noise: both are set to their mean.
LARGEST_FALL = 0.10


@dataclass(frozen=True)
class Tables:
    """The grids, in seconds."""

    decode_batches: tuple[int, ...]
    decode_contexts: tuple[int, ...]
    decode_s: Floats
    prefill_tokens: tuple[int, ...]
    prefill_contexts: tuple[int, ...]
    prefill_s: Floats
    square_token_s: float
    continued: int
    """Cells that were not measured."""
    smoothed: int
    """Cells that were set to a neighbour's mean because times fell where work grew."""

    def latency(self, domain: Domain, mixed: MixedCost = PLAIN_SUM) -> IterationGrid:
        """The latency model of these grids; raises ``ProfileError`` when they are no profile."""
        return IterationGrid(
            domain=domain,
            mixed=mixed,
            decode_batches=self.decode_batches,
            decode_contexts=self.decode_contexts,
            decode_s=tuple(map(tuple, self.decode_s.tolist())),
            prefill_tokens=self.prefill_tokens,
            prefill_contexts=self.prefill_contexts,
            prefill_s=tuple(map(tuple, self.prefill_s.tolist())),
            square_token_s=self.square_token_s,
        )


def build_tables(measurements: Iterable[Measurement]) -> Tables:
    """Grids from the measurements that count and are no checks; raises ``InputError`` when too few are there."""
    kept = [m for m in measurements if not m.dropped and not m.check]
    batches, contexts, decode_s, open_decodes = _decode_grid([m for m in kept if m.kind == "decode"])
    tokens, cached, prefill_s, square_token_s, open_prefills = _prefill_grid([m for m in kept if m.kind == "prefill"])
    decode_s, smoothed_decodes = smooth(decode_s)
    prefill_s, smoothed_prefills = smooth(prefill_s)
    return Tables(
        batches,
        contexts,
        decode_s,
        tokens,
        cached,
        prefill_s,
        _splittable(square_token_s, tokens, prefill_s[:, 0]),
        open_decodes + open_prefills,
        smoothed_decodes + smoothed_prefills,
    )


def _decode_grid(decodes: list[Measurement]) -> tuple[tuple[int, ...], tuple[int, ...], Floats, int]:
    cells: dict[int, dict[int, list[Measurement]]] = defaultdict(lambda: defaultdict(list))
    for m in decodes:
        cells[m.sequences][m.context_tokens].append(m)
    batches = tuple(sorted(cells))
    contexts = tuple(sorted({context for row in cells.values() for context in row}))
    if not batches or batches[0] != 1 or len(contexts) < 2:
        raise InputError("too few decode measurements to fit: batch 1 and two contexts are the least")
    table = np.empty((len(batches), len(contexts)))
    slope = 0.0
    for i, batch in enumerate(batches):
        row = cells[batch]
        x = np.array([np.median([m.actual_context_tokens for m in row[c]]) for c in sorted(row)])
        y = np.array([np.median([m.iteration_s for m in row[c]]) for c in sorted(row)])
        if len(x) > 1:
            # Seconds per token of context and sequence: what a row of fewer points, or beyond them, goes on with.
            slope = max(0.0, float(y[-1] - y[0]) / float(x[-1] - x[0]) / batch)
        inside = np.interp(contexts, x, y)
        low, high = np.minimum(np.array(contexts) - x[0], 0.0), np.maximum(np.array(contexts) - x[-1], 0.0)
        first_slope = (y[1] - y[0]) / (x[1] - x[0]) if len(x) > 1 else slope * batch
        table[i] = inside + slope * batch * high + max(0.0, first_slope) * low
    return batches, contexts, table, len(batches) * len(contexts) - sum(len(row) for row in cells.values())


def _prefill_grid(
    prefills: list[Measurement],
) -> tuple[tuple[int, ...], tuple[int, ...], Floats, float, int]:
    cells: dict[tuple[int, int], list[float]] = defaultdict(list)
    for m in prefills:
        cells[m.chunk_tokens, m.context_tokens].append(m.iteration_s)
    median_s = {cell: float(np.median(values)) for cell, values in cells.items()}
    tokens = tuple(sorted(chunk for chunk, context in median_s if context == 0))
    contexts = tuple(sorted({context for _, context in median_s}))
    if len(tokens) < 2:
        raise InputError("too few prefill measurements to fit: two chunk lengths without context are the least")
    own = {(chunk, context): median_s[chunk, context] for chunk, context in median_s if chunk in tokens}
    square_token_s = _square_token_s(own, tokens)
    table = np.array([[own.get((p, c), own[p, 0] + square_token_s * 2.0 * p * c) for c in contexts] for p in tokens])
    return tokens, contexts, table, square_token_s, table.size - len(own)


def _square_token_s(median_s: dict[tuple[int, int], float], tokens: tuple[int, ...]) -> float:
    """Seconds per square token of prefill attention: from what contexts cost, or from the curvature without any."""
    behind = [(p, c) for p, c in median_s if c > 0]
    if behind:
        x = np.array([2.0 * p * c for p, c in behind])
        y = np.array([median_s[p, c] - median_s[p, 0] for p, c in behind])
        return max(0.0, float(x @ y / (x @ x)))
    if len(tokens) < 4:
        return 0.0
    longest = tokens[-4:]
    curvature = np.polyfit(longest, [median_s[p, 0] for p in longest], 2)[0]
    return max(0.0, float(curvature))


def _splittable(square_token_s: float, tokens: tuple[int, ...], times_s: Floats) -> float:
    """The share of attention that leaves dense work which does not fall with more tokens."""
    squares = np.square(np.array(tokens, dtype=np.float64))
    while square_token_s > 1e-15:
        dense = times_s - square_token_s * squares
        if dense.min() > 0.0 and (dense[1:] >= 0.95 * dense[:-1]).all():
            return square_token_s
        square_token_s *= 0.9
    return 0.0


def smooth(table: Floats) -> tuple[Floats, int]:
    """The table with falls along its rows and columns that are too large levelled, and how many cells changed."""
    result = table.copy()
    for _ in range(100):
        before = result.copy()
        for axis in (0, 1):
            for line in np.moveaxis(result, axis, 0).T if axis == 0 else result:
                for i in range(1, len(line)):
                    if line[i] < line[i - 1] * (1.0 - LARGEST_FALL):
                        line[i - 1 : i + 1] = line[i - 1 : i + 1].mean()
        if np.array_equal(before, result):
            break
    return result, int((result != table).sum())
