"""Pools, requests and runs that policies are tried on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from gsim.cluster import InstanceSpec, RunResult, Scenario, simulate
from gsim.core import (
    BOTH,
    DECODE,
    PREFILL,
    ActiveRequests,
    ClusterView,
    Job,
    Request,
    Session,
    StaticView,
    Status,
    build,
)
from gsim.engine import EngineConfig
from gsim.latency import constant_profile

#: Decode seconds per token of the four classes of a mixed pool, weakest first.
TPOT_S = (0.060, 0.045, 0.022, 0.015)
_REQUESTS = 60


class BrokenError(Exception):
    """A promise that a policy does not keep, in words."""


def require(holds: object, said: str) -> None:
    """Raise ``BrokenError`` unless ``holds``."""
    if not holds:
        raise BrokenError(said)


def request(request_id: int = 0, **fields: Any) -> Request:
    """A request of the paper's shape, in sessions of three."""
    values: dict[str, Any] = {"arrival_s": 100.0, "prompt_tokens": 100, "max_output_tokens": 4096, "slo_s": 6.0}
    return Request(request_id, **{**values, "session_id": request_id // 3, **fields})


def idle_pool(n: int) -> StaticView:
    """``n`` instances of four classes in turn."""
    tpot = np.array([TPOT_S[i % 4] for i in range(n)])
    return StaticView(
        gpu=tuple(f"gpu-{i % 4}" for i in range(n)),
        model=("model",) * n,
        nominal_tpot_s=tpot,
        nominal_prefill_s_per_token=tpot / 100,
        nominal_tokens_per_s=40 / tpot,
        kv_capacity_tokens=np.full(n, 200_000, dtype=np.int64),
        max_num_seqs=np.full(n, 256, dtype=np.int64),
        max_num_batched_tokens=np.full(n, 2048, dtype=np.int64),
        block_size=16,
        price_per_hour=np.ones(n),
        layout=("layout",) * n,
        cards=np.ones(n, dtype=np.int64),
    )


def idle_view(n: int) -> ClusterView:
    """``idle_pool`` at 100 s, with nothing in flight."""
    view = ClusterView.of(idle_pool(n))
    view.now_s = 100.0
    view.predict = lambda request: 100.0 + request.request_id % 37
    view.move_cost_s = lambda tokens, source, targets: 0.1 + view.queue_s[targets]
    return view


def busy_view(n: int, seed: int = 0) -> ClusterView:
    """``n`` instances in the middle of some load, every signal different on every instance."""
    rng = np.random.default_rng(seed)
    view = idle_view(n)
    view.in_flight[:] = rng.permutation(n) + 1
    view.in_flight_prefill_tokens[:] = rng.permutation(n) * 50
    view.in_flight_tokens[:] = view.in_flight * 300.0 + rng.random(n)
    view.running[:] = view.in_flight
    view.waiting[:] = rng.permutation(n) // 2
    view.kv_usage[:] = rng.random(n) * 0.8
    view.scraped_s[:] = 99.9
    view.queue_s[:] = rng.random(n)
    view.prefill_s_per_token *= 1 + 0.1 * rng.random(n)
    view.tpot_s *= 1 + 0.1 * rng.random(n)
    matches = rng.permutation(n).astype(np.int64)
    view.prefix_tokens = lambda request: np.minimum(matches * 8, request.prompt_tokens)
    seen = active_requests(8 * n, n, seed)
    view.observed = lambda: seen
    return view


def active_requests(n: int, instances: int, seed: int = 0) -> ActiveRequests:
    """``n`` requests in flight at 100 s, of which many are about to miss their deadline; read-only, as in a run."""
    rng = np.random.default_rng(seed)
    generated = rng.integers(0, 400, n)
    arrival_s = 100.0 - rng.random(n) * 10.0
    made = ActiveRequests(
        request_id=np.arange(n),
        instance=rng.integers(0, instances, n),
        prompt_tokens=rng.integers(10, 3000, n),
        generated_tokens=generated,
        predicted_tokens=(generated + rng.integers(1, 400, n)).astype(np.float64),
        arrival_s=arrival_s,
        dispatched_s=arrival_s + 0.1,
        deadline_s=arrival_s + 6.0 + 6.0 * rng.random(n),
        moves=rng.integers(0, 2, n),
        moving=rng.random(n) < 0.1,
        previous=np.full(n, -1, dtype=np.int64),
        moved_s=np.full(n, -np.inf),
        observed_s=100.0,
    )
    for field in dataclasses.fields(made):
        column = getattr(made, field.name)
        if isinstance(column, np.ndarray):
            column.flags.writeable = False
    return made


def run(**policies: Any) -> RunResult:
    """A short run under load on three unlike instances; policies that are not given are gsim's own.

    Under a handover policy the first one computes prompts, the second one outputs, and the third one both.
    """
    chosen = {
        "router": policies.get("router") or build("router", "least_request"),
        "predictor": policies.get("predictor") or build("predictor", "constant"),
        "estimator": policies.get("estimator") or build("estimator", "ema"),
    }
    if "rectifier" in policies:
        chosen |= {"rectifier": policies["rectifier"], "mechanism": build("mechanism", "token_ids")}
    if "scaler" in policies:
        chosen |= {"scaler": policies["scaler"], "slots": policies["slots"]}
    roles = (BOTH,) * 3
    if "handover" in policies:
        chosen |= {"handover": policies["handover"]}
        roles = (PREFILL, DECODE, BOTH)
    speeds = (0.04, 0.02, 0.01)
    engine = policies.get("engine") or EngineConfig()
    instances = tuple(
        InstanceSpec(f"i{i}", constant_profile(speed, max_num_seqs=8), engine, role=role)
        for i, (speed, role) in enumerate(zip(speeds, roles, strict=True))
    )
    if "scaler" in policies:
        instances = (*instances[:2], dataclasses.replace(instances[2], up=False))
    result = simulate(Scenario(instances=instances, max_hold_s=30.0, **chosen), _sessions(), 7)
    ended = np.isin(result.requests["status"], [Status.FINISHED, Status.REJECTED])
    require(
        ended.all() and len(ended) == _REQUESTS,
        f"{int((~ended).sum())} of {_REQUESTS} requests did not end as they should",
    )
    return result


def _sessions() -> Iterator[Session]:
    rng = np.random.default_rng(1)
    arrivals = np.cumsum(rng.exponential(0.1, _REQUESTS)).tolist()
    for i, (at_s, output) in enumerate(zip(arrivals, rng.integers(20, 200, _REQUESTS).tolist(), strict=True)):
        yield Session(i, at_s, (Job(Request(i, at_s, 100, 512, 6.0, session_id=i), output),))


def same_run(first: RunResult, second: RunResult) -> bool:
    """Whether two runs left the same rows, bit by bit."""
    return all(first.requests[name].tobytes() == column.tobytes() for name, column in second.requests.items())
