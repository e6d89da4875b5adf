"""How good a length predictor is, on requests that it has not seen."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from gsim.core import Job, Oracle, Predictor
from gsim.core.view import Floats
from gsim.prediction.corpus import Sample, tasks_of


@runtime_checkable
class Trainable(Protocol):
    """A predictor that learns from a recorded set at once, and can stop learning."""

    def train(self, samples: Sequence[Sample]) -> None:
        """Learn from a recorded set."""
        ...

    def freeze(self) -> None:
        """Learn nothing from now on."""
        ...


class Accuracy(NamedTuple):
    """One line of the table: a predictor on one task class (or on all)."""

    predictor: str
    task: str
    mae_over_mean: float
    """Mean absolute error over the mean true length."""
    median_ape: float
    """Median of |predicted - true| / true."""
    within_2x: float
    """Share of predictions between half and twice the truth."""
    log_error_sd: float
    """Standard deviation of log(predicted / true)."""
    spearman: float
    """Rank correlation of predicted and true lengths (nan where predictions are all equal)."""
    us_per_call: float
    """Mean processor time of one prediction, microseconds."""
    requests: int
    """How many were predicted."""


def judge(predictors: Mapping[str, Predictor], train: Sequence[Sample], test: Sequence[Sample]) -> list[Accuracy]:
    """Train every predictor on ``train`` and judge it on ``test``: a line per task class, then one for all.

    Nobody learns from the test set. A trained model does see the finished turns of the test's sessions, in order, as
    a gateway does; the others see nothing of it.
    """
    lines: list[Accuracy] = []
    for name, predictor in predictors.items():
        predicted, us_per_call = _predictions(predictor, train, test)
        truth = np.array([sample.output_tokens for sample in test], dtype=np.float64)
        tasks = np.array([sample.request.task for sample in test])
        for task in [*tasks_of(test), "all"]:
            rows = np.ones(len(test), dtype=np.bool_) if task == "all" else tasks == task
            lines.append(_line(name, task, predicted[rows], truth[rows], us_per_call))
    return lines


def _predictions(predictor: Predictor, train: Sequence[Sample], test: Sequence[Sample]) -> tuple[Floats, float]:
    if isinstance(predictor, Trainable):
        predictor.train(train)
        predictor.freeze()
    else:
        for request, output_tokens in train:
            predictor.observe(request, output_tokens)
    predicted = np.empty(len(test))
    spent_s = 0.0
    for k, (request, output_tokens) in enumerate(test):
        if isinstance(predictor, Oracle):
            predictor.reveal(Job(request, output_tokens))
        begin = time.process_time()
        predicted[k] = predictor.predict(request)
        spent_s += time.process_time() - begin
        if isinstance(predictor, Trainable | Oracle):
            predictor.observe(request, output_tokens)
    return predicted, 1e6 * spent_s / max(len(test), 1)


def _line(name: str, task: str, predicted: Floats, truth: Floats, us_per_call: float) -> Accuracy:
    from scipy import stats

    error = np.abs(predicted - truth)
    logs = np.log(predicted / truth)
    constant = len(np.unique(predicted)) < 2 or len(np.unique(truth)) < 2
    return Accuracy(
        predictor=name,
        task=task,
        mae_over_mean=float(error.mean() / truth.mean()),
        median_ape=float(np.median(error / truth)),
        within_2x=float((np.abs(logs) <= np.log(2.0)).mean()),
        log_error_sd=float(logs.std()),
        spearman=float("nan") if constant else float(stats.spearmanr(predicted, truth).statistic),
        us_per_call=us_per_call,
        requests=len(truth),
    )
