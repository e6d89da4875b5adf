"""Each predictor does what it says."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from gsim.core import ConfigError, Job, Request, build
from gsim.prediction.residuals import Residuals


def request(request_id: int = 0, task: str = "t", prompt: int = 100, **fields: Any) -> Request:
    return Request(request_id, 0.0, prompt, 4096, 10.0, task, **fields)


def noisy_log_errors(n: int = 4000, truth: int = 1000, sessions: int = 1, **fields: Any) -> np.ndarray:
    predictor = build("predictor", "noisy", **fields)
    predictor.seed(np.random.default_rng(5))
    predicted = []
    for k in range(n):
        one = request(k, session_id=k // sessions, turn=k % sessions)
        predictor.reveal(Job(one, truth))
        predicted.append(predictor.predict(one))
    return np.log(np.array(predicted) / truth)


def test_oracle_knows_and_forgets():
    predictor = build("predictor", "oracle")
    predictor.reveal(Job(request(), 123))
    assert predictor.predict(request()) == 123.0
    assert predictor.predict(request(), 122) == 123.0
    predictor.observe(request(), 123)
    assert predictor.predict(request()) == 4096.0
    np.testing.assert_array_equal(
        predictor.repredict([request()] * 2, np.array([3, 122]), np.array([123.0, 123.0])), [123.0, 123.0]
    )


def test_constant_yields_a_quarter_once_overrun():
    predictor = build("predictor", "constant", tokens=100.0)
    assert predictor.predict(request(), 99) == 100.0
    assert predictor.predict(request(), 100) == 125.0
    assert predictor.predict(request(), 400) == 500.0


def test_class_mean_learns_per_class():
    predictor = build("predictor", "class_mean", prior_tokens=100.0, prior_weight=1.0)
    for _ in range(3):
        predictor.observe(request(task="a"), 500)
    assert predictor.predict(request(task="a")) == pytest.approx(400.0)
    assert predictor.predict(request(task="b")) == 100.0


def test_history_takes_the_quantile_of_what_is_still_possible():
    predictor = build("predictor", "history", min_samples=4, window=8)
    for tokens in (10, 20, 30, 40, 500):
        predictor.observe(request(), tokens)
    assert predictor.predict(request()) == 30.0
    assert predictor.predict(request(), 25) == 40.0
    assert predictor.predict(request(), 40) == 500.0
    assert predictor.predict(request(), 600) == pytest.approx(750.0)
    # Another prompt length: the class. Another class: the whole.
    assert predictor.predict(request(prompt=5000)) == 30.0
    assert predictor.predict(request(task="other")) == 30.0
    for _ in range(8):
        predictor.observe(request(), 7)
    assert predictor.predict(request()) == 7.0


def test_history_separates_prompt_lengths():
    predictor = build("predictor", "history")
    for _ in range(20):
        predictor.observe(request(prompt=100), 50)
        predictor.observe(request(prompt=9000), 900)
    assert predictor.predict(request(prompt=110)) == 50.0
    assert predictor.predict(request(prompt=8500)) == 900.0


def test_uniform_random_is_uniform_and_stays():
    predictor = build("predictor", "uniform_random", low_tokens=10.0, high_tokens=20.0)
    drawn = np.array([predictor.predict(request(k)) for k in range(4000)])
    assert drawn.min() >= 10
    assert drawn.max() <= 20
    assert np.histogram(drawn, 5, (10, 20))[0] == pytest.approx(np.full(5, 800), abs=100)
    assert [predictor.predict(request(k)) for k in reversed(range(4000))] == drawn[::-1].tolist()


def test_noisy_without_error_is_the_truth():
    assert (noisy_log_errors(100, error=0.0) == 0.0).all()


def test_noisy_has_the_error_it_was_given():
    errors = noisy_log_errors(error=0.4, bias=0.2)
    assert errors.std() == pytest.approx(0.4, abs=0.02)
    assert errors.mean() == pytest.approx(0.2, abs=0.02)
    assert noisy_log_errors(error=0.4, error_by_task={"t": 0.1}).std() == pytest.approx(0.1, abs=0.01)


def test_noisy_correlates_over_the_turns_of_a_session():
    errors = noisy_log_errors(error=0.5, turn_correlation=0.7, sessions=2).reshape(-1, 2)
    assert np.corrcoef(errors.T)[0, 1] == pytest.approx(0.7, abs=0.04)
    free = noisy_log_errors(error=0.5, sessions=2).reshape(-1, 2)
    assert abs(np.corrcoef(free.T)[0, 1]) < 0.06


def test_noisy_shrinks_to_the_class():
    predictor = build("predictor", "noisy", error=0.0, shrinkage=1.0)
    predicted = []
    for k in range(200):
        predictor.reveal(Job(request(k), 100 if k % 2 else 400))
        predicted.append(predictor.predict(request(k)))
    assert predicted[-1] == pytest.approx(200.0, rel=0.01)
    half = build("predictor", "noisy", error=0.0, shrinkage=0.5)
    for k in range(200):
        half.reveal(Job(request(k), 100 if k % 2 else 400))
    assert half.predict(request(199)) == pytest.approx(141.4, rel=0.01)


def test_noisy_errors_belong_to_requests_whatever_the_order():
    one, two = (build("predictor", "noisy") for _ in range(2))
    for predictor, order in ((one, range(50)), (two, reversed(range(50)))):
        predictor.seed(np.random.default_rng(2))
        for k in order:
            predictor.reveal(Job(request(k), 100 + k))
    assert [one.predict(request(k)) for k in range(50)] == [two.predict(request(k)) for k in range(50)]


def test_noisy_may_refine_as_tokens_appear():
    predictor = build("predictor", "noisy", error=0.5, refines=True)
    predictor.reveal(Job(request(), 1000))
    factor = predictor.predict(request()) / 1000
    assert predictor.predict(request(), 600) == pytest.approx(600 + 400 * factor)
    assert predictor.repredict([request()], np.array([600]), np.array([1.0]))[0] == pytest.approx(600 + 400 * factor)


def test_noisy_is_cheap():
    predictor = build("predictor", "noisy")
    some = [Job(request(k), 100) for k in range(5000)]
    begin = time.process_time()
    for job in some:
        predictor.reveal(job)
        predictor.predict(job.request)
    # About 1.5 us; ten times that would be felt in a run of a million requests.
    assert (time.process_time() - begin) / 5000 < 20e-6


def test_residuals_give_the_median_of_what_is_still_possible():
    residuals = Residuals()
    residuals.fit(["t"] * 101, np.linspace(-1.0, 1.0, 101))
    assert residuals.median("t") == pytest.approx(0.0)
    first = np.array([100.0, 100.0, 100.0])
    totals = residuals.totals(["t"] * 3, first, np.array([0, 100, 1000]))
    # Beyond 100 tokens, errors lie in (0, 1]: their median is 0.5. Beyond 1000 none is possible: a quarter more.
    assert totals == pytest.approx([100.0, 100 * np.exp(0.51), 1250.0], rel=0.02)


@pytest.mark.parametrize("name", ["moe", "pooled_gbdt"])
def test_learned_predictors_find_what_the_words_say(name):
    rng = np.random.default_rng(0)
    predictor = build("predictor", name, min_samples=150, trees=100)
    predictor.seed(np.random.default_rng(0))
    errors = []
    for k in range(300):
        word, length = (("brief", 30), ("essay", 900))[k % 2]
        noise = " ".join(f"w{i}" for i in rng.integers(0, 50, 8))
        one = request(k, text=f"{noise} {word} {noise}", session_id=k)
        truth = int(length * rng.uniform(0.9, 1.1))
        errors.append(abs(np.log(predictor.predict(one) / truth)))
        predictor.observe(one, truth)
    assert np.median(errors[:150]) > 0.5  # only the class's mean is known
    assert np.median(errors[150:]) < 0.15


@pytest.mark.parametrize("name", ["moe", "pooled_gbdt"])
def test_learned_predictors_need_no_text(name):
    predictor = build("predictor", name, min_samples=100, trees=100)
    errors = []
    for k in range(200):
        one = request(k, prompt=100 if k % 2 else 5000, session_id=k)
        truth = 50 if k % 2 else 800
        errors.append(abs(np.log(predictor.predict(one) / truth)))
        predictor.observe(one, truth)
    assert np.median(errors[100:]) < 0.1


def test_so_many_experts_answer_as_are_active():
    def answers(active_experts):
        rng = np.random.default_rng(0)
        predictor = build(
            "predictor", "moe", experts=3, active_experts=active_experts, trees=5, min_samples=150, text_dimensions=2
        )
        for k in range(150):
            predictor.observe(
                request(k, prompt=100 * (1 + k % 3), session_id=k), int(50 * (1 + k % 3) * rng.gamma(2.0)) + 1
            )
        return [predictor.predict(request(1000 + n, prompt=n, session_id=1000 + n)) for n in range(50, 400, 25)]

    one, two, all_three = (np.array(answers(n)) for n in (1, 2, 3))
    assert (one != two).any()
    assert (two != all_three).any()
    np.testing.assert_array_equal(all_three, answers(9))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("constant", {"tokens": 0.0}),
        ("class_mean", {"prior_tokens": -1.0}),
        ("class_mean", {"prior_weight": 0.0}),
        ("uniform_random", {"low_tokens": 5.0, "high_tokens": 4.0}),
        ("noisy", {"error": -0.1}),
        ("noisy", {"error_by_task": {"a": -1.0}}),
        ("noisy", {"bias": float("inf")}),
        ("noisy", {"shrinkage": 1.1}),
        ("noisy", {"turn_correlation": -0.1}),
        ("history", {"quantile": 2.0}),
        ("history", {"window": 0}),
        ("history", {"prior_tokens": 0.0}),
        ("moe", {"experts": 0}),
        ("moe", {"active_experts": 0}),
        ("moe", {"window": 0}),
        ("moe", {"train_path": "no/such/file.jsonl"}),
        ("pooled_gbdt", {"trees": 0}),
    ],
)
def test_impossible_options_are_refused_by_name(name, fields):
    field = next(iter(fields))
    with pytest.raises(ConfigError, match=field.replace("train_path", "train.path")):
        build("predictor", name, **fields)
