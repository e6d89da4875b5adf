"""Pools and active requests to review."""

from collections.abc import Callable

import numpy as np
import pytest

from gsim.core import ActiveRequests, ClusterView, StaticView


@pytest.fixture(scope="session")
def pool() -> Callable[..., ClusterView]:
    def make(n: int, tpot_s=0.02, layouts=None, models=None, kv_tokens=100_000) -> ClusterView:
        tpot = np.broadcast_to(np.asarray(tpot_s, dtype=np.float64), n).copy()
        view = ClusterView.of(
            StaticView(
                gpu=("gpu",) * n,
                model=models or ("m",) * n,
                nominal_tpot_s=tpot,
                nominal_prefill_s_per_token=np.full(n, 1e-4),
                nominal_tokens_per_s=np.full(n, 1000.0),
                kv_capacity_tokens=np.full(n, kv_tokens, dtype=np.int64),
                max_num_seqs=np.full(n, 256, dtype=np.int64),
                max_num_batched_tokens=np.full(n, 2048, dtype=np.int64),
                block_size=16,
                price_per_hour=np.ones(n),
                layout=layouts or ("l",) * n,
                cards=np.ones(n, dtype=np.int64),
            )
        )
        view.move_cost_s = lambda tokens, source, targets: view.queue_s[targets] + 0.1
        return view

    return make


@pytest.fixture(scope="session")
def requests() -> Callable[..., ActiveRequests]:
    def make(n: int, **columns) -> ActiveRequests:
        def column(name: str, default, dtype):
            return np.broadcast_to(np.asarray(columns.pop(name, default), dtype=dtype), n).copy()

        active = ActiveRequests(
            request_id=np.arange(n),
            instance=column("instance", 0, np.int64),
            prompt_tokens=column("prompt_tokens", 100, np.int64),
            generated_tokens=column("generated_tokens", 10, np.int64),
            predicted_tokens=column("predicted_tokens", 210.0, np.float64),
            arrival_s=column("arrival_s", 0.0, np.float64),
            dispatched_s=column("dispatched_s", 0.0, np.float64),
            deadline_s=column("deadline_s", 10.0, np.float64),
            moves=column("moves", 0, np.int64),
            moving=column("moving", False, np.bool_),
            previous=column("previous", -1, np.int64),
            moved_s=column("moved_s", -np.inf, np.float64),
        )
        assert not columns, f"unknown columns {sorted(columns)}"
        return active

    return make
