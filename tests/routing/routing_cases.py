"""Pools and requests for the routers' tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from gsim.core import ClusterView, Request, StaticView

#: Decode seconds per token of the four classes of a mixed pool, weakest first.
TPOT_S = (0.060, 0.045, 0.022, 0.015)


def static_view(n: int = 4) -> StaticView:
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


def idle_view(n: int = 4, **signals: Any) -> ClusterView:
    """An idle pool; ``signals`` overwrite arrays or functions of the view."""
    view = ClusterView.of(static_view(n))
    view.predict = lambda request: 200.0
    for name, value in signals.items():
        if callable(value):
            setattr(view, name, value)
        else:
            getattr(view, name)[:] = value
    return view


def busy_view(n: int, seed: int = 0) -> ClusterView:
    """A pool in the middle of some load, every signal different on every instance."""
    rng = np.random.default_rng(seed)
    view = ClusterView.of(static_view(n))
    view.now_s = 100.0
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
    view.predict = lambda request: 100.0 + request.request_id % 37
    view.prefix_tokens = lambda request: np.minimum(matches * 8, request.prompt_tokens)
    return view


def request(request_id: int = 0, **fields: Any) -> Request:
    """A request of the paper's shape."""
    values: dict[str, Any] = {"arrival_s": 100.0, "prompt_tokens": 100, "max_output_tokens": 4096, "slo_s": 6.0}
    return Request(request_id, **{**values, "session_id": request_id // 3, **fields})
