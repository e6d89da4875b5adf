"""What decodes cost more beside a chunk, from the mixed steps that calibration measured.

The grids are of chunks alone and of decodes alone. A mixed step is put together from them, and what it takes beyond the
sum is explained by the KV of its decodes (``gsim.latency.mixed`` has the reason).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from gsim.calibration.plan import Point
from gsim.calibration.raw import Measurement
from gsim.core.batch import Batch, Chunk
from gsim.core.protocols import LatencyModel
from gsim.latency import IterationGrid, MixedCost

#: Fewer mixed points than this do not make a factor.
FEWEST_POINTS = 3


def predicted_s(latency: LatencyModel, point: Point, actual_context_tokens: float) -> float:
    """What a latency model says of a point that was measured at a certain context."""
    if point.kind == "prefill":
        return latency.iteration_s(Batch((Chunk(point.chunk_tokens, point.context_tokens),), 0, 0, 0))
    chunks = (Chunk(point.chunk_tokens, 0),) if point.chunk_tokens else ()
    total = round(actual_context_tokens * point.sequences)
    return latency.iteration_s(Batch(chunks, point.sequences, total, -(-total // point.sequences)))


def fit_mixed(latency: IterationGrid, measurements: Iterable[Measurement]) -> MixedCost:
    """The cost that brings a grid nearest to mixed steps that count and are no checks.

    Least squares of the relative errors of the points' medians; nothing is added where there are fewer than three
    points, or where they take no longer than the sum.
    """
    repeats: dict[Point, list[Measurement]] = defaultdict(list)
    for m in measurements:
        if m.kind == "mixed" and not m.dropped and not m.check:
            repeats[m.point].append(m)
    if len(repeats) < FEWEST_POINTS:
        return MixedCost()
    alone, doubled = replace(latency, mixed=MixedCost()), replace(latency, mixed=MixedCost(kv_factor=2.0))
    short, kv = [], []
    for point, ms in sorted(repeats.items()):
        measured_s = float(np.median([m.iteration_s for m in ms]))
        context = float(np.median([m.actual_context_tokens for m in ms]))
        sum_s = predicted_s(alone, point, context)
        short.append((measured_s - sum_s) / measured_s)
        kv.append((predicted_s(doubled, point, context) - sum_s) / measured_s)
    most = float(np.dot(kv, kv))
    return MixedCost(1.0 + max(0.0, float(np.dot(short, kv)) / most)) if most > 0.0 else MixedCost()
