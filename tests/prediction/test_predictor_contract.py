"""What every registered predictor keeps to. A new predictor is tested by existing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gsim.core import BatchPredictor, Job, Oracle, Predictor, Randomised, Request, build, entries

PREDICTORS = sorted(entries("predictor"))
#: Fields that make the learned ones fit within a few requests.
QUICK = {
    "moe": {"min_samples": 60, "retrain_every": 100, "trees": 10},
    "pooled_gbdt": {"min_samples": 60, "retrain_every": 100, "trees": 10},
}


def made(name: str, seed: int = 3) -> Predictor:
    predictor = build("predictor", name, **QUICK.get(name, {}))
    if isinstance(predictor, Randomised):
        predictor.seed(np.random.default_rng(seed))
    return predictor


def jobs(n: int, seed: int = 0) -> list[Job]:
    """Three task classes of very unlike lengths, in sessions of four turns, with and without text."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(n):
        task = ("short", "long", "wild")[(k // 4) % 3]
        length = {"short": 20, "long": 800, "wild": int(rng.pareto(1.2) * 100) + 1}[task]
        tokens = max(1, int(length * rng.uniform(0.8, 1.25)))
        text = None if task == "wild" else f"please write {task} things about {k}"
        request = Request(
            k, 0.0, int(rng.integers(1, 5000)), 1 << 16, 10.0, task, session_id=k // 4, turn=k % 4, text=text
        )
        made.append(Job(request, min(tokens, 60_000)))
    return made


def served(predictor: Predictor, some: list[Job]) -> list[float]:
    """Predictions of requests that arrive and finish one after another."""
    predictions = []
    for job in some:
        if isinstance(predictor, Oracle):
            predictor.reveal(job)
        predictions.append(predictor.predict(job.request))
        predictor.observe(job.request, job.output_tokens)
    return predictions


@pytest.mark.parametrize("name", PREDICTORS)
@pytest.mark.parametrize("warm", [0, 200])
def test_predicts_a_finite_total_beyond_what_was_generated(name, warm):
    predictor = made(name)
    served(predictor, jobs(warm))
    for job in jobs(warm + 12, seed=1)[warm:]:
        if isinstance(predictor, Oracle):
            predictor.reveal(job)
        assert 1.0 <= predictor.predict(job.request) < math.inf
        for generated in (1, job.output_tokens - 1, 17, 5_000, 1_000_000):
            total = predictor.predict(job.request, generated)
            assert generated < total < math.inf


@pytest.mark.parametrize("name", PREDICTORS)
def test_same_seed_same_predictions(name):
    assert served(made(name), jobs(160)) == served(made(name), jobs(160))


@pytest.mark.parametrize("name", PREDICTORS)
def test_asking_again_changes_nothing(name):
    predictor = made(name)
    served(predictor, jobs(120))
    job = jobs(121)[-1]
    if isinstance(predictor, Oracle):
        predictor.reveal(job)
    first = predictor.predict(job.request)
    predictor.predict(job.request, 30)
    assert predictor.predict(job.request) == first


@pytest.mark.parametrize("name", PREDICTORS)
def test_many_at_once_are_predicted_as_one_by_one(name):
    predictor = made(name)
    if not isinstance(predictor, BatchPredictor):
        return
    some = jobs(160)
    served(predictor, some[:120])
    rest = some[120:]
    for job in rest:
        if isinstance(predictor, Oracle):
            predictor.reveal(job)
    first = np.array([predictor.predict(job.request) for job in rest])
    generated = np.array([0, 1, 10, 100, 1000] * 8)
    # The truth ends a request: nobody is asked about one that has generated all of it.
    generated = np.minimum(generated, [job.output_tokens - 1 for job in rest])
    together = predictor.repredict([job.request for job in rest], generated, first)
    alone = [predictor.predict(job.request, int(g)) for job, g in zip(rest, generated, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    assert together.shape == (40,)
    assert together.dtype == np.float64
    assert (together > generated).all()


@pytest.mark.parametrize("name", PREDICTORS)
def test_nothing_is_asked_and_nothing_is_kept_of_what_is_over(name):
    """A finished request may be asked about once more (a late re-prediction): a number, not an error."""
    predictor = made(name)
    some = jobs(80)
    served(predictor, some)
    assert predictor.predict(some[3].request, 5) > 5


@pytest.mark.parametrize("name", PREDICTORS)
def test_docstring_says_what_it_is(name):
    assert entries("predictor")[name].summary
