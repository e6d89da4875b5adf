"""The optimum's routers: the plan replayed, and the program on a rolling horizon."""

from __future__ import annotations

import numpy as np
import pytest

from gsim.core import HOLD, REJECT, ClusterView, ConfigError, Request, StaticView, build, entries


def view_of(speeds: tuple[float, ...], predicted: float = 100.0) -> ClusterView:
    """An idle pool of instances whose decodes run at ``speeds`` tokens per second."""
    n = len(speeds)
    speed = np.array(speeds)
    static = StaticView(
        gpu=("x",) * n,
        model=("m",) * n,
        nominal_tpot_s=1.0 / speed,
        nominal_prefill_s_per_token=0.01 / speed,
        nominal_tokens_per_s=20.0 * speed,
        kv_capacity_tokens=np.full(n, 10_000),
        max_num_seqs=np.full(n, 64),
        max_num_batched_tokens=np.full(n, 2048),
        block_size=16,
        price_per_hour=np.ones(n),
        layout=("l",) * n,
        cards=np.ones(n, dtype=np.int64),
    )
    view = ClusterView.of(static)
    view.in_flight_tokens[:] = 0.0
    view.predict = lambda request: predicted
    return view


def asked(request_id: int = 0, slo_s: float = 5.0, at_s: float = 0.0) -> Request:
    return Request(request_id, at_s, 50, 500, slo_s)


def test_the_plan_is_followed():
    router = build("router", "ilp_plan")
    router.assign({0: 2, 1: None})
    view = view_of((50.0, 100.0, 25.0))
    assert router.route(asked(0), view) == 2
    assert router.route(asked(1), view) is REJECT


def test_without_a_plan_the_least_loaded_for_its_speed_is_taken():
    router = build("router", "ilp_plan")
    view = view_of((50.0, 100.0, 25.0))
    view.in_flight[:] = (4, 6, 3)
    assert router.route(asked(9), view) == 1
    router.assign({9: 1})
    view.available[1] = False
    assert router.route(asked(9), view) == 0
    view.available[:] = False
    assert router.route(asked(9), view) is HOLD


def test_the_plan_is_declared_to_be_no_online_policy():
    known = entries("router")
    assert known["ilp_plan"].cls.offline
    assert not getattr(known["ilp_rolling"].cls, "offline", False)


def test_rolling_takes_the_fastest_of_an_idle_pool_when_nothing_else_is_known():
    assert build("router", "ilp_rolling").route(asked(), view_of((50.0, 100.0, 25.0))) == 1


def test_rolling_keeps_the_fast_instance_for_those_who_need_it():
    """Eight urgent requests were seen that only instance 1 serves in time, and it has room for eight."""
    patient = asked(8, slo_s=3.4, at_s=0.1)
    for seen, expected in ((0, 1), (8, 0)):
        view = view_of((30.0, 100.0))
        router = build("router", "ilp_rolling", window=8, fill=1.0)
        for k in range(seen):
            view.now_s = 0.01 * k
            assert router.route(asked(k, slo_s=3.3, at_s=view.now_s), view) == 1
        view.in_flight_tokens[1] = 5880.0
        view.now_s = 0.1
        assert router.route(patient, view) == expected


def test_rolling_without_a_feasible_instance_takes_the_smallest_latency():
    view = view_of((50.0, 100.0))
    view.queue_s[:] = (1.0, 9.0)
    assert build("router", "ilp_rolling").route(asked(slo_s=0.1), view) == 0


@pytest.mark.parametrize(
    "fields", [{"window": -1}, {"candidates": 0}, {"checkpoints": 0}, {"fill": 0.0}, {"haste": 1.0}]
)
def test_bad_settings_are_named(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        build("router", "ilp_rolling", **fields)
