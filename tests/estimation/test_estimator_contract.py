"""What every registered estimator keeps to."""

from __future__ import annotations

import numpy as np
import pytest

from gsim.core import ClusterView, Completion, Request, StaticView, build, entries

ESTIMATORS = sorted(entries("estimator"))


def pool(n: int = 3) -> ClusterView:
    tpot = np.array([0.06, 0.03, 0.015])[:n]
    return ClusterView.of(
        StaticView(
            gpu=("a", "b", "c")[:n],
            model=("m",) * n,
            nominal_tpot_s=tpot,
            nominal_prefill_s_per_token=tpot / 100,
            nominal_tokens_per_s=40 / tpot,
            kv_capacity_tokens=np.full(n, 100_000, dtype=np.int64),
            max_num_seqs=np.full(n, 256, dtype=np.int64),
            max_num_batched_tokens=np.full(n, 2048, dtype=np.int64),
            block_size=16,
            price_per_hour=np.ones(n),
            layout=("l",) * n,
            cards=np.ones(n, dtype=np.int64),
        )
    )


def request(request_id: int = 0, prompt_tokens: int = 100) -> Request:
    return Request(request_id, 0.0, prompt_tokens, 4096, 10.0)


class Gateway:
    """Keeps the view's counters and tells the estimator what passes, as the cluster's gateway does."""

    def __init__(self, estimator, view):
        self.estimator, self.view, self.now_s = estimator, view, 0.0
        estimator.attach(view)

    def send(self, one, instance=0):
        self.view.in_flight[instance] += 1
        self.view.in_flight_prefill_tokens[instance] += one.prompt_tokens
        self.estimator.dispatched(instance, one, self.now_s)

    def first_token(self, one, sent_s, at_s, instance=0):
        self.now_s = at_s
        self.view.in_flight_prefill_tokens[instance] -= one.prompt_tokens
        self.estimator.first_token(instance, one, sent_s, at_s)

    def finish(self, one, sent_s, first_s, at_s, tokens, instance=0):
        self.now_s = at_s
        self.view.in_flight[instance] -= 1
        self.estimator.finished(Completion(one, instance, sent_s, first_s, at_s, tokens))

    def lose(self, one, instance=0, *, before_first_token=True):
        self.view.in_flight[instance] -= 1
        if before_first_token:
            self.view.in_flight_prefill_tokens[instance] -= one.prompt_tokens


@pytest.mark.parametrize("name", ESTIMATORS)
def test_cold_start_is_the_nominal_speed_and_no_queue(name):
    view = pool()
    view.queue_s[:] = 99.0
    build("estimator", name).attach(view)
    assert (view.queue_s == 0).all()
    np.testing.assert_allclose(view.prefill_s_per_token, view.static.nominal_prefill_s_per_token)
    assert (view.tpot_s > 0).all()
    assert (view.tpot_s <= view.static.nominal_tpot_s * 1.001).all()
    # Nobody is there yet: at most the reference load, at the least an idle card.
    assert (view.tpot_s >= view.static.nominal_tpot_s * 0.25).all()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_writes_in_place_and_stays_sane_through_anything(name):
    view = pool()
    arrays = (view.queue_s, view.prefill_s_per_token, view.tpot_s)
    gateway = Gateway(build("estimator", name), view)
    rng = np.random.default_rng(0)
    running: list[tuple[Request, int, float, float]] = []
    for k in range(400):
        one, instance = request(k, int(rng.integers(1, 3000))), int(rng.integers(3))
        sent_s = gateway.now_s
        gateway.send(one, instance)
        if rng.random() < 0.1:
            gateway.lose(one, instance)  # migrated, rejected or lost: nobody tells the estimator
            continue
        gateway.first_token(one, sent_s, gateway.now_s + rng.exponential(0.2), instance)
        running.append((one, instance, sent_s, gateway.now_s))
        if rng.random() < 0.5:
            gateway.estimator.streamed(instance, int(rng.integers(1, 200)), 0.5 * rng.integers(1, 9), gateway.now_s)
        if len(running) > 20:
            one, instance, sent_s, first_s = running.pop(int(rng.integers(20)))
            gateway.finish(one, sent_s, first_s, gateway.now_s + 0.01, int(rng.integers(1, 500)), instance)
        if rng.random() < 0.3:
            gateway.now_s += rng.exponential(1.0)
            gateway.estimator.refresh(gateway.now_s)
        for before, after in zip(arrays, (view.queue_s, view.prefill_s_per_token, view.tpot_s), strict=True):
            assert before is after
            assert np.isfinite(after).all()
            assert (after >= 0).all()
        assert (view.tpot_s > 0).all()
        assert (view.prefill_s_per_token > 0).all()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_instances_do_not_learn_from_one_another(name):
    view = pool()
    gateway = Gateway(build("estimator", name), view)
    before = [array.copy() for array in (view.queue_s, view.prefill_s_per_token, view.tpot_s)]
    gateway.send(request(), 1)
    gateway.first_token(request(), 0.0, 3.0, 1)
    gateway.estimator.streamed(1, 10, 5.0, 3.0)
    gateway.finish(request(), 0.0, 3.0, 9.0, 50, 1)
    for old, new in zip(before, (view.queue_s, view.prefill_s_per_token, view.tpot_s), strict=True):
        np.testing.assert_array_equal(new[[0, 2]], old[[0, 2]])
