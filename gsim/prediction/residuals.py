"""How far a learned predictor errs, and so what remains of a request that has come this far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gsim.core.scheduling import QUANTILES
from gsim.core.view import Floats
from gsim.prediction.overrun import OVERRUN

_MIN_SAMPLES = 30


@dataclass
class Residuals:
    """Log errors on requests that the model was not trained on, per task class.

    The total of a request with g tokens generated and first prediction m is m * exp(r), r the median of the errors
    that are still possible, m * exp(r) > g. Where none is, a quarter beyond g (``overrun``).
    """

    _all: Floats = field(default_factory=lambda: np.zeros(0), init=False)
    _by_task: dict[str, Floats] = field(default_factory=dict, init=False)

    def fit(self, tasks: Sequence[str], log_errors: Floats) -> None:
        """``log_errors``: log(true / predicted)."""
        self._all = np.sort(log_errors)
        names = np.array(tasks)
        found = {task: np.sort(log_errors[names == task]) for task in sorted(set(tasks))}
        self._by_task = {task: errors for task, errors in found.items() if len(errors) >= _MIN_SAMPLES}

    def median(self, task: str) -> float:
        """The median log error of a class: what a first prediction is corrected by."""
        errors = self._by_task.get(task, self._all)
        return float(errors[len(errors) // 2]) if len(errors) else 0.0

    def quantiles(self, task: str, first: float, generated_tokens: int) -> list[float]:
        """Totals at each of ``QUANTILES``, given what was generated; empty where no error is still possible."""
        errors = self._by_task.get(task, self._all)
        n = len(errors)
        if n == 0:
            return []
        centred = errors - errors[n // 2]
        start = 0
        if generated_tokens > 0:
            start = int(np.searchsorted(centred, math.log(generated_tokens / first), side="right"))
        left = n - start
        at = [start + int(p * (left - 1) + 0.5) for p in QUANTILES] if left else []
        return [max(first * math.exp(min(float(centred[i]), 50.0)), generated_tokens + 1.0) for i in at]

    def totals(self, tasks: Sequence[str], first: Floats, generated_tokens: np.ndarray) -> Floats:
        """Expected totals, given what was generated."""
        generated = np.asarray(generated_tokens, dtype=np.float64)
        first = np.asarray(first, dtype=np.float64)
        totals = np.empty(len(first))
        names = np.array([task if task in self._by_task else "" for task in tasks], dtype=object)
        for name in set(names.tolist()):
            rows = np.flatnonzero(names == name)
            errors = self._by_task.get(name, self._all)
            totals[rows] = _conditional(errors, first[rows], generated[rows])
        return totals


def _conditional(errors: Floats, first: Floats, generated: Floats) -> Floats:
    beyond = generated + np.maximum(1.0, OVERRUN * generated)
    n = len(errors)
    if n == 0:
        return np.where(first >= generated + 1.0, first, beyond)
    with np.errstate(divide="ignore"):
        seen = np.log(generated / first)
    # Errors are relative to the corrected prediction: their median is 0.
    centred = errors - errors[n // 2]
    start = np.searchsorted(centred, seen, side="right")
    middle = np.minimum(start + (n - start) // 2, n - 1)
    expected = first * np.exp(centred[middle])
    return np.where(start < n, np.maximum(expected, generated + 1.0), beyond)
