"""A pool and a gateway for the estimators' tests."""

from __future__ import annotations

import numpy as np

from gsim.core import ClusterView, Completion, Request, StaticView


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

    def first_token(self, one, sent_s, at_s, instance=0, cached_tokens=0):
        self.now_s = at_s
        self.view.in_flight_prefill_tokens[instance] -= one.prompt_tokens
        self.estimator.first_token(instance, one, sent_s, at_s, cached_tokens)

    def finish(self, one, sent_s, first_s, at_s, tokens, instance=0):
        self.now_s = at_s
        self.view.in_flight[instance] -= 1
        self.estimator.finished(Completion(one, instance, sent_s, first_s, at_s, tokens))

    def lose(self, one, instance=0, *, before_first_token=True):
        self.view.in_flight[instance] -= 1
        if before_first_token:
            self.view.in_flight_prefill_tokens[instance] -= one.prompt_tokens
