"""What a user sees whose policy answers what cannot be meant."""

from __future__ import annotations

import math

import numpy as np
import pytest
from policy_cases import Answers, Predicts, Reviews, estimated, predicted, reviewed, run, told

from gsim.core import (
    HOLD,
    ClusterView,
    Migration,
    Request,
    build,
)

NOT_AN_INSTANCE = (1.7, "1", None, math.nan, np.array([1]), np.float64(0.0), True, -1, 2, Migration(0, 1))
NOT_TOKENS = (math.nan, math.inf, -math.inf, 0.0, -5, "7", None, np.array([3.0]))
ALLOWED = "an instance's index (a whole number from 0 to 1), HOLD or REJECT"


@pytest.mark.parametrize("answer", NOT_AN_INSTANCE, ids=repr)
def test_a_router_may_answer_an_index_hold_or_reject(answer):
    said = told(lambda: run(Answers(answer)))
    assert said == f"router Answers answered {answer!r} ({type(answer).__name__}) for request 0; allowed: {ALLOWED}"


@pytest.mark.parametrize("answer", [1, np.int64(1), np.uint8(1)], ids=repr)
def test_numpys_whole_numbers_are_indices(answer):
    assert run(Answers(answer)).requests["instance"].tolist() == [1] * 10


@pytest.mark.parametrize("answer", NOT_TOKENS, ids=repr)
def test_a_prediction_is_a_finite_number_of_tokens(answer):
    allowed = "allowed: a finite number of tokens above 0"
    said = told(lambda: predicted(Predicts(answer)))
    assert said == f"predictor Predicts predicted {answer!r} ({type(answer).__name__}) for request 0; {allowed}"
    again = told(lambda: predicted(Predicts(100.0, answer)))
    assert again.startswith("predictor Predicts predicted ")
    assert "for request " in again or "one number per request" in again


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (None, "answered None (NoneType) to a review; allowed: a sequence of Migration"),
        ([(0, 1)], "allowed: Migration(request_id, target)"),
        ([Migration(0, 2)], "moves request 0 (int) to instance 2 (int); allowed: "),
        ([Migration(0, -1)], "to instance -1 (int); allowed: "),
        ([Migration(0, 0.5)], "to instance 0.5 (float); allowed: "),  # type: ignore[arg-type]
        ([Migration(None, 1)], "moves request None (NoneType)"),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_a_rectifier_answers_migrations_inside_the_pool(answer, part):
    said = told(lambda: reviewed(Reviews(answer)))
    assert said.startswith("rectifier Reviews ")
    assert part in said


@pytest.mark.parametrize("interval_s", [0, 0.0, -1.0, math.nan, None, "soon"], ids=repr)
def test_reviews_are_apart_in_time(interval_s):
    said = told(lambda: reviewed(Reviews([], interval_s)))
    assert said.startswith(f"rectifier Reviews has interval_s = {interval_s!r}")
    assert said.endswith("allowed: 1e-06 seconds or more (inf: no reviews)")


def test_an_interval_that_shrinks_to_nothing_ends_the_run():
    rectifier = Reviews(lambda active, view: setattr(rectifier, "interval_s", 0) or [])
    assert told(lambda: reviewed(rectifier)).startswith("rectifier Reviews has interval_s = 0 (int)")


def test_a_queue_key_is_a_number():
    class Holds(Answers):
        def queue_key(self, request: Request, view: ClusterView) -> float:
            return math.nan

    assert "gave the queue key nan (float) to request 0" in told(lambda: run(Holds(HOLD)))


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (lambda active, view: [Migration(99, 1)], "moves request 99 to instance 1; allowed: a request of the "),
        (
            lambda active, view: [Migration(int(active.request_id[0]), int(active.instance[0]))],
            ", where it is; allowed: another instance",
        ),
    ],
)
def test_a_rectifier_moves_who_was_in_its_review_to_elsewhere(answer, part):
    said = told(lambda: reviewed(Reviews(answer)))
    assert said.startswith("rectifier Reviews moves request ")
    assert part in said


@pytest.mark.parametrize(
    ("signal", "value", "part"),
    [
        ("tpot_s", math.nan, "tpot_s = nan for instance 1; allowed: a finite number of seconds above 0"),
        ("tpot_s", 0.0, "tpot_s = 0.0 for instance 1"),
        ("queue_s", -1.0, "queue_s = -1.0 for instance 1; allowed: a finite number of seconds 0 or more"),
        ("prefill_s_per_token", math.inf, "prefill_s_per_token = inf for instance 1"),
    ],
)
def test_an_estimator_says_what_can_be_meant(signal, value, part):
    class Says(type(build("estimator", "ema"))):
        def refresh(self, now_s: float) -> None:
            getattr(self.seen, signal)[1] = value

        def attach(self, view: ClusterView) -> None:
            super().attach(view)
            self.seen = view

    assert told(lambda: estimated(Says())).startswith(f"estimator Says says {part}")
