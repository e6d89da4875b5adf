"""The cause of a miss, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gsim.core import Status
from gsim.metrics.misses import CAUSES, causes

#: A request that is 1 s late after 5 s: its first token after 0.5 s, then 10 tokens in 4.5 s, as was predicted.
LATE = {
    "arrival_s": 10.0,
    "dispatched_s": 10.0,
    "first_token_s": 10.5,
    "finished_s": 15.0,
    "slo_s": 4.0,
    "generated_tokens": 10,
    "predicted_tokens": 10.0,
    "status": int(Status.FINISHED),
    "migrations": 0,
    "preemptions": 0,
    "retries": 0,
}


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({}, "slow card"),
        ({"first_token_s": 11.0}, "queue and prefill"),
        ({"first_token_s": 11.0, "dispatched_s": 10.4}, "queue and prefill"),
        ({"first_token_s": 11.0, "dispatched_s": 10.6}, "held at the gateway"),
        ({"first_token_s": 10.9, "dispatched_s": 10.8}, "slow card"),
        ({"predicted_tokens": 8.0}, "longer than predicted"),
        ({"predicted_tokens": 8.1}, "slow card"),
        ({"predicted_tokens": np.nan}, "slow card"),
        ({"preemptions": 1, "predicted_tokens": 2.0}, "preempted"),
        ({"migrations": 1, "preemptions": 1}, "moved"),
        ({"retries": 1, "migrations": 2}, "crash"),
        ({"slo_s": 6.0}, "other limits"),
        ({"status": int(Status.CUT), "finished_s": np.nan}, "cut"),
        ({"status": int(Status.FAILED), "finished_s": np.nan}, "failed"),
        ({"status": int(Status.REJECTED), "finished_s": np.nan, "first_token_s": np.nan}, "refused"),
        ({"status": int(Status.CUT), "finished_s": np.nan, "retries": 1}, "cut"),
    ],
)
def test_the_cause_of_a_miss(changed, cause):
    rows = {name: np.array([value]) for name, value in {**LATE, **changed}.items()}
    assert causes(rows).tolist() == [cause]
    assert cause in CAUSES
