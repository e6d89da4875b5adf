"""What migration did in a run, in numbers: how often, with what success, at what cost."""

from __future__ import annotations

import math

import numpy as np

from gsim.cluster import RunResult
from gsim.core import Outcome
from gsim.gateway.records import Columns
from gsim.metrics import Objective, Window


def migration_metrics(
    result: RunResult, window: Window | None = None, objective: Objective | None = None
) -> dict[str, float]:
    """Counts over the requests that are counted (moves: over the whole run).

    ``migrated_attainment``: of the requests that moved (the risk monitor moves those that it predicts to miss), the
    share that met its deadline. ``recomputed_fraction``: tokens prefilled again after moves and crashes, per prompt and
    output token served. ``moves_back``: moves to the instance that the request had last come from.
    """
    requests = result.requests
    counted = (window or Window()).requests(requests)
    rows = {name: values[counted] for name, values in requests.items()}
    moved = rows["migrations"] > 0
    good = (objective or Objective()).met(rows)
    tokens = int(rows["prompt_tokens"].sum() + rows["generated_tokens"].sum())
    moves = result.moves
    stalled = (moves["next_token_s"] - moves["stopped_s"]) * 1e3 if moves else np.zeros(0)
    stalled = stalled[np.isfinite(stalled)]
    return _handed_over(result, rows) | {
        "migrations_per_request": _ratio(int(rows["migrations"].sum()), len(moved)),
        "migrated_attainment": _ratio(int((good & moved).sum()), int(moved.sum())),
        "recomputed_tokens": int(rows["recomputed_tokens"].sum()),
        "recomputed_fraction": _ratio(int(rows["recomputed_tokens"].sum()), tokens),
        "moves_decided": len(moves["outcome"]) if moves else 0,
        "moves_back": result.counters["moves_back"],
        "moves_refused": result.counters["moves_refused"],
        "moves_given_up": result.counters["moves_given_up"],
        "mean_stalled_ms": float(stalled.mean()) if len(stalled) else math.nan,
    }


def _handed_over(result: RunResult, rows: Columns) -> dict[str, float]:
    """Of the counted requests: who was handed over, and how long that took (nothing in a pool without roles)."""
    if not result.handovers:
        return {}
    taken = np.isin(result.handovers["request_id"], rows["request_id"])
    mine = {name: values[taken] for name, values in result.handovers.items()}
    arrived = mine["outcome"] == Outcome.MOVED
    stood_ms = (mine["next_token_s"] - mine["stopped_s"])[arrived] * 1e3
    copied_ms = (mine["submitted_s"] - mine["stopped_s"])[arrived] * 1e3
    served = len(np.unique(mine["request_id"][arrived]))
    return {
        "handed_over": _ratio(served, len(rows["request_id"])),
        "mean_handover_ms": float(np.nanmean(stood_ms)) if len(stood_ms) else math.nan,
        "mean_copy_ms": float(copied_ms.mean()) if len(copied_ms) else math.nan,
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
