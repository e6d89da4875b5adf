"""What holds in every run (docs/invariants.md), looked at in every run: over all rows at once, at next to no cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsim.cluster import RunResult
from gsim.core import Outcome, SimulationError, Status

Broken = np.ndarray[Any, np.dtype[np.bool_]]


def audit(result: RunResult) -> None:
    """Raises ``SimulationError`` that names the invariant, and the first request or instance that breaks it."""
    rows = result.requests
    for number, what, broken in _of_requests(result):
        if broken.any():
            at = int(broken.argmax())
            told = ", ".join(f"{name} {rows[name][at]:g}" for name in ("request_id", *what.split(" ")))
            raise SimulationError(f"invariant {number} does not hold ({told}): a fault of gsim, please report it")
    for instance in result.instances:
        idle = instance.generated_tokens > 0 and not instance.busy_s > 0
        if idle or not -1e-9 <= instance.busy_s <= result.duration_s * (1 + 1e-9) + 1e-9:
            raise SimulationError(
                f"invariant 14 does not hold (instance {instance.name}: busy for {instance.busy_s:g} of "
                f"{result.duration_s:g} s): a fault of gsim, please report it"
            )
        if instance.busy_s > instance.paid_s * (1 + 1e-9) + 1e-9:
            raise SimulationError(
                f"invariant 19 does not hold (instance {instance.name}: busy for {instance.busy_s:g} s, paid for "
                f"{instance.paid_s:g} s): a fault of gsim, please report it"
            )


def _handed_over(result: RunResult) -> np.ndarray[Any, Any]:
    """How often each request was handed over: its first token, of which no KV was copied, is computed by the target."""
    if not result.handovers:
        return np.zeros(len(result.requests["request_id"]), dtype=np.int64)
    arrived = result.handovers["request_id"][result.handovers["outcome"] == Outcome.MOVED]
    ids, times = np.unique(arrived, return_counts=True)
    counts = np.zeros(len(result.requests["request_id"]), dtype=np.int64)
    counts[np.searchsorted(result.requests["request_id"], ids)] = times
    return counts


def _of_requests(result: RunResult) -> Iterator[tuple[int, str, Broken]]:
    """Invariants of single requests: number, the columns that tell, and where it is broken."""
    rows = result.requests
    finished = rows["status"] == Status.FINISHED
    first_s, end_s = rows["first_token_s"], rows["finished_s"]
    again = np.zeros(len(finished), dtype=np.bool_)
    again[1:] = rows["request_id"][1:] <= rows["request_id"][:-1]
    yield 1, "status", again
    generated = rows["generated_tokens"]
    yield 2, "generated_tokens output_tokens", finished & ~((generated >= 1) & (generated <= rows["output_tokens"]))
    yield 4, "arrival_s first_token_s finished_s", finished & ~((rows["arrival_s"] <= first_s) & (first_s <= end_s))
    yield 14, "generated_tokens first_token_s finished_s", finished & (generated > 1) & ~(first_s < end_s)
    yield 15, "status ended_s", ~np.isfinite(rows["ended_s"])
    cached, computed, repeated = rows["cached_tokens"], rows["computed_tokens"], rows["recomputed_tokens"]
    counted = (cached >= 0) & (repeated >= 0) & (repeated <= computed)
    # Whoever was on one instance alone has its prompt from there: found or computed. (A move that did not arrive is no
    # migration, and the request went on elsewhere all the same.)
    elsewhere = result.counters["retries"] + result.counters["moves_fell_back"] + result.counters["drained"]
    alone = finished & (rows["migrations"] == 0) & (elsewhere == 0)
    whole = ~alone | ((cached + computed == rows["prompt_tokens"] + _handed_over(result)) & (repeated == 0))
    yield 16, "prompt_tokens cached_tokens computed_tokens recomputed_tokens", ~(counted & whole)
