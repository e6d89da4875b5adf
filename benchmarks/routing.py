"""What one routing decision costs: ``python -m benchmarks.routing [DECISIONS]``.

Every router at 8 and 512 instances: median and 99th percentile of the wall time of one ``route`` call, on a pool under
load whose counters move as a gateway moves them. Routers that need prefix matches are asked with a match that costs
nothing: the index is the gateway's. The last line is one JSON object.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from typing import Any

import numpy as np

from gsim.core import ClusterView, Completion, Learner, Placed, Randomised, Request, StaticView, Verdict, build, entries

SIZES = (8, 512)
LIMIT_US = 100.0
"""The target at 512 instances."""


def busy_view(instances: int, seed: int = 0) -> ClusterView:
    """Four GPU classes in turn, each instance with some load of its own."""
    rng = np.random.default_rng(seed)
    tpot = np.array([(0.060, 0.045, 0.022, 0.015)[i % 4] for i in range(instances)])
    view = ClusterView.of(
        StaticView(
            gpu=tuple(f"gpu-{i % 4}" for i in range(instances)),
            model=("model",) * instances,
            nominal_tpot_s=tpot,
            nominal_prefill_s_per_token=tpot / 100,
            nominal_tokens_per_s=40 / tpot,
            kv_capacity_tokens=np.full(instances, 200_000, dtype=np.int64),
            max_num_seqs=np.full(instances, 256, dtype=np.int64),
            max_num_batched_tokens=np.full(instances, 2048, dtype=np.int64),
            block_size=16,
            price_per_hour=np.ones(instances),
            layout=("layout",) * instances,
        )
    )
    view.in_flight[:] = rng.integers(1, 60, instances)
    view.in_flight_prefill_tokens[:] = rng.integers(0, 2000, instances)
    view.in_flight_tokens[:] = view.in_flight * 300.0
    view.running[:] = view.in_flight
    view.waiting[:] = rng.integers(0, 4, instances)
    view.kv_usage[:] = rng.random(instances) * 0.8
    view.queue_s[:] = rng.random(instances)
    view.tpot_s *= rng.uniform(1.0, 1.3, instances)
    matches = rng.integers(0, 100, instances)
    view.predict = lambda request: 100.0 + request.request_id % 401
    view.prefix_tokens = lambda request: matches
    return view


def decision_us(name: str, instances: int, decisions: int) -> np.ndarray[Any, Any]:
    """Wall time of every decision, microseconds."""
    router = build("router", name)
    if isinstance(router, Randomised):
        router.seed(np.random.default_rng(1))
    view = busy_view(instances)
    spent = np.empty(decisions)
    gc.collect()
    gc.disable()
    try:
        for k in range(decisions):
            request = Request(k, view.now_s, 100, 4096, 10.0, session_id=k // 8)
            begin = time.perf_counter()
            chosen = router.route(request, view)
            spent[k] = time.perf_counter() - begin
            _pass(router, request, 0 if isinstance(chosen, Verdict) else int(chosen), view)
    finally:
        gc.enable()
    return 1e6 * spent


def _pass(router: object, request: Request, instance: int, view: ClusterView) -> None:
    """The request is placed and, so that load stays as it is, finishes."""
    if isinstance(router, Placed):
        router.placed(request, instance)
    if isinstance(router, Learner):
        router.observe_completion(Completion(request, instance, view.now_s, view.now_s, view.now_s + 3, 200, 200))
    view.now_s += 0.001


def main() -> None:
    """Measure all routers, print the table."""
    decisions = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    found: dict[str, dict[str, float]] = {}
    print(f"{'router':<18}" + "".join(f"{f'p50 us @{n}':>13}{f'p99 us @{n}':>13}" for n in SIZES) + "  prefix")
    for name, entry in entries("router").items():
        if getattr(entry.cls, "offline", False):
            continue
        row: dict[str, float] = {}
        for instances in SIZES:
            spent = decision_us(name, instances, decisions)
            row[f"p50_us_{instances}"], row[f"p99_us_{instances}"] = np.percentile(spent, [50, 99]).round(2).tolist()
        found[name] = row
        prefix = "prefix" in getattr(build("router", name), "needs", ())
        print(f"{name:<18}" + "".join(f"{value:>13.1f}" for value in row.values()) + ("  yes" if prefix else ""))
    slow = [name for name, row in found.items() if row[f"p99_us_{SIZES[-1]}"] > LIMIT_US]
    print(json.dumps({"benchmark": "routing", "decisions": decisions, "over_limit": slow, "routers": found}))


if __name__ == "__main__":
    main()
