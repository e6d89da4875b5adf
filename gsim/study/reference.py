"""What could have been: the upper bound of a run's goodput, and a plan with all knowledge, beside what routers did.

A cell whose router is ``ilp_plan`` is a plan; ``with_bound`` adds the bound and every policy's regret to the metrics.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gsim.core import GsimError
from gsim.optimum import BoundConfig
from gsim.study.bounds import Bounds
from gsim.study.measured import by_point
from gsim.study.results import CellResult


def with_bound(
    results: Sequence[CellResult], folder: Path | None = None, config: BoundConfig | None = None
) -> list[CellResult]:
    """The same cells with more metrics: ``upper_bound``, ``plan``, ``regret_to_bound``, ``regret_to_plan``.

    All in requests per second of arrival time, as ``goodput_rps``; ``plan`` is the goodput of the cell of the same grid
    point whose router is ``ilp_plan`` (NaN where there is none). Bounds are kept in ``folder`` by content. Raises
    ``GsimError`` for a run that scores above its bound: then one of the two is wrong.
    """
    found: dict[int, CellResult] = {}
    bounds = Bounds(folder, config or BoundConfig())
    for group in by_point(results):
        planned = next((result for result in group if result.cell.value("router") == "ilp_plan"), None)
        for result in group:
            summaries = tuple(_extended(result, i, seed, planned, bounds) for i, seed in enumerate(result.cell.seeds))
            found[id(result)] = dataclasses.replace(result, summaries=summaries)
    return [found[id(result)] for result in results]


def _extended(result: CellResult, i: int, seed: int, planned: CellResult | None, bounds: Bounds) -> dict[str, Any]:
    metrics = dict(result.summaries[i]["metrics"])
    most = bounds.requests(result.cell.settings, seed)
    if metrics["good"] > most:
        raise GsimError(f"{result.label}, seed {seed}: {metrics['good']} good requests are above the bound of {most}")
    per_s = metrics["offered_rps"] / metrics["requests"] if metrics["requests"] else 0.0
    metrics["upper_bound"] = most * per_s
    metrics["regret_to_bound"] = metrics["upper_bound"] - metrics["goodput_rps"]
    if planned is not None and seed in planned.cell.seeds:
        metrics["plan"] = planned.summaries[planned.cell.seeds.index(seed)]["metrics"]["good"] * per_s
        metrics["regret_to_plan"] = metrics["plan"] - metrics["goodput_rps"]
    return {**result.summaries[i], "metrics": metrics}
