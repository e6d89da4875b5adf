"""Distributions of the output length: as often right as they say, and narrower where tokens have been seen."""

from __future__ import annotations

import numpy as np
import pytest

from gsim.core import Job, Request, SimulationError, build
from gsim.core.answers import quantiles_of
from gsim.core.scheduling import QUANTILES
from gsim.prediction.spread import log_normal


def jobs(n, seed=0):
    """Two classes of log-normal lengths."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(n):
        task, median, deviation = (("short", 40.0, 0.3), ("long", 600.0, 0.8))[k % 2]
        tokens = max(1, int(median * np.exp(deviation * rng.normal())))
        made.append(Job(Request(k, 0.0, 100, 1 << 16, 10.0, task), tokens))
    return made


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("noisy", {"error": 0.5}),
        ("noisy", {"error": 0.2, "bias": 0.4}),
        ("class_mean", {}),
        ("class_median", {}),
        ("history", {}),
        ("pooled_gbdt", {"min_samples": 400, "trees": 20}),
    ],
)
def test_lengths_fall_below_a_quantile_as_often_as_it_says(name, fields):
    predictor = build("predictor", name, **fields)
    below = np.zeros(len(QUANTILES))
    counted = 0
    for k, job in enumerate(jobs(1200)):
        if hasattr(predictor, "reveal"):
            predictor.reveal(job)
        if k >= 500:
            counted += 1
            below += job.output_tokens <= np.array(predictor.predict_quantiles(job.request))
        else:
            predictor.predict(job.request)
        predictor.observe(job.request, job.output_tokens)
    # 700 requests: three standard errors are 0.06; a learned predictor errs more on what is new.
    assert below / counted == pytest.approx(QUANTILES, abs=0.06 if name != "pooled_gbdt" else 0.15)


def test_what_was_generated_narrows_a_distribution():
    fresh, later = log_normal(100.0, 0.5, 0), log_normal(100.0, 0.5, 150)
    assert fresh == pytest.approx([44, 60, 71, 82, 94, 106, 121, 140, 168, 228], rel=0.02)
    assert min(later) > 150.0
    draws = 100.0 * np.exp(0.5 * np.random.default_rng(0).normal(size=200_000))
    assert later == pytest.approx(np.quantile(draws[draws > 150.0], QUANTILES), rel=0.02)
    assert log_normal(100.0, 0.5, 100_000) == [125_000.0] * 10
    assert log_normal(100.0, 0.0, 3) == [100.0] * 10


@pytest.mark.parametrize("answer", [[1.0] * 9, [2.0, 1.0, *[3.0] * 8], [0.0] * 10, [1.0] * 9 + [np.inf], None])
def test_what_is_no_distribution_is_refused(answer):
    with pytest.raises(SimulationError, match="predictor 'x' predicted the quantiles .* for request 3; allowed: 10"):
        quantiles_of(answer, "predictor 'x'", 3)
