"""What an iteration with a chunk beside decodes takes more than its parts, from the mixed steps of a calibration.

The grids are of chunks alone and of decodes alone. What a mixed step takes beyond their sum is explained by a constant
per such iteration, by the KV of its decodes (``gsim.latency.mixed`` has the reasons), or by both.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from gsim.calibration.plan import Point
from gsim.calibration.raw import Measurement
from gsim.core.batch import Batch, Chunk
from gsim.core.protocols import LatencyModel
from gsim.latency import IterationGrid, MixedCost

Floats = NDArray[np.float64]

#: Fewer mixed points than this explain nothing.
FEWEST_POINTS = 4
#: A number is added only where it takes away this share of the error that is left without it.
LEAST_GAIN = 0.2


def predicted_s(latency: LatencyModel, point: Point, actual_context_tokens: float) -> float:
    """What a latency model says of a point that was measured at a certain context."""
    if point.kind == "prefill":
        return latency.iteration_s(Batch((Chunk(point.chunk_tokens, point.context_tokens),), 0, 0, 0))
    chunks = (Chunk(point.chunk_tokens, 0),) if point.chunk_tokens else ()
    total = round(actual_context_tokens * point.sequences)
    return latency.iteration_s(Batch(chunks, point.sequences, total, -(-total // point.sequences)))


def fit_mixed(latency: IterationGrid, measurements: Iterable[Measurement]) -> MixedCost:
    """The cost that brings a grid nearest to mixed steps that count and are no checks.

    What a chunk adds to the plain iterations of the same batch in the same seconds is compared with what it adds in the
    grid, so that neither a drift of the machine nor an error of a decode's cell passes for it. Least absolute relative
    distance; a constant, a factor on KV, or both, each only where it takes a fifth of the error away.
    """
    repeats: dict[Point, list[Measurement]] = defaultdict(list)
    for m in measurements:
        if m.kind == "mixed" and not m.dropped and not m.check:
            repeats[m.point].append(m)
    if len(repeats) < FEWEST_POINTS:
        return MixedCost()
    rows = np.array([_row(latency, point, ms) for point, ms in sorted(repeats.items())])
    short, ones, kv = rows.T
    chosen, least = (0.0, 0.0), float(np.abs(short).mean())
    for tried in ([(ones, 0.0 * kv), (0.0 * ones, kv)], [(ones, kv)]):
        found = [_nearest(short, np.column_stack(columns)) for columns in tried]
        numbers, distance = min(found, key=lambda one: one[1])
        if distance <= (1.0 - LEAST_GAIN) * least:
            chosen, least = numbers, distance
    return MixedCost(kv_factor=1.0 + chosen[1], iteration_s=chosen[0])


def _row(latency: IterationGrid, point: Point, ms: list[Measurement]) -> tuple[float, float, float]:
    """How short the plain sum is, a second, and the decodes' KV: each over the time of the step."""
    context = float(np.median([m.actual_context_tokens for m in ms]))
    alone = replace(latency, mixed=MixedCost())
    sum_s = predicted_s(alone, point, context)
    kv_s = predicted_s(replace(latency, mixed=MixedCost(kv_factor=2.0)), point, context) - sum_s
    decodes_s = predicted_s(alone, replace(point, chunk_tokens=0), context)
    added = [m.iteration_s - (m.plain_s if math.isfinite(m.plain_s) else decodes_s) for m in ms]
    step_s = float(np.median([m.iteration_s for m in ms]))
    return (float(np.median(added)) - (sum_s - decodes_s)) / step_s, 1.0 / step_s, kv_s / step_s


def _nearest(short: Floats, columns: Floats) -> tuple[tuple[float, float], float]:
    """Numbers of 0 or more whose multiples of the columns are nearest to ``short``, and the mean distance."""
    count = len(short)
    distances = np.eye(count)
    bounds = np.vstack([np.hstack([columns, -distances]), np.hstack([-columns, -distances])])
    costs = np.concatenate([np.zeros(columns.shape[1]), np.ones(count)])
    found = linprog(costs, A_ub=bounds, b_ub=np.concatenate([short, -short]))
    return (float(found.x[0]), float(found.x[1])), float(found.fun) / count
