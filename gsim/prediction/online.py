"""Learning while serving: what finished becomes training data, and the model is fitted anew from time to time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import numpy as np

from gsim.core import Request
from gsim.core.view import Floats
from gsim.prediction.class_mean import ClassMean
from gsim.prediction.corpus import Sample, read_corpus
from gsim.prediction.features import Features, Row, SessionMemory
from gsim.prediction.options import check_counts
from gsim.prediction.overrun import overrun
from gsim.prediction.residuals import Residuals
from gsim.prediction.spread import certain

_HELD_OUT = 0.2
"""Share of the training data that residuals are measured on, before the model is fitted on all of it."""


@cache
def _threads() -> Any:
    # scikit-learn's thread pools must be loaded before they can be found.
    import sklearn.ensemble  # noqa: F401
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


def one_thread() -> AbstractContextManager[None]:
    """Runs are spread over processes already, and sums must not depend on how many cores there are."""
    limited: AbstractContextManager[None] = _threads().limit(limits=1)
    return limited


class Regression(Protocol):
    """A model of log output lengths."""

    def fit(self, features: Floats, log_lengths: Floats) -> None:
        """Learn."""
        ...

    def predict(self, features: Floats) -> Floats:
        """Expected log lengths."""
        ...


@dataclass
class OnlineRegression:
    """A regression with its features, its training window and its residuals.

    Until the first fit it answers with the class's mean.
    """

    make: Callable[[int], Regression]
    """A new model for a random seed."""
    features: Features
    min_samples: int
    retrain_every: int
    window: int
    prior: ClassMean
    frozen: bool = False
    """No more fits; sessions are still remembered."""
    fits: int = 0
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    _model: Regression | None = None
    _residuals: Residuals = field(default_factory=Residuals)
    _memory: SessionMemory = field(default_factory=SessionMemory)
    _asked: dict[int, tuple[Row, float]] = field(default_factory=dict)
    """Per request: what it looked like when it was first asked about, and the first prediction."""
    _finished: deque[tuple[Row, float]] = field(default_factory=deque)
    _fresh: int = 0

    def seed(self, rng: np.random.Generator) -> None:
        """Draw from ``rng``."""
        self._rng = rng

    def predict(self, request: Request, generated_tokens: int = 0) -> float:
        """Expected total, given what was generated."""
        asked = self._asked.get(request.request_id)
        if asked is None:
            row = self._memory.row(request)
            asked = (row, self._first(request, row))
            self._asked[request.request_id] = asked
        if generated_tokens == 0:
            return asked[1]
        return float(self.repredict([request], np.array([generated_tokens]), np.array([asked[1]]))[0])

    def repredict(self, requests: Sequence[Request], generated_tokens: np.ndarray, first: np.ndarray) -> Floats:
        """The same for many, from their first predictions."""
        return self._residuals.totals([request.task for request in requests], first, generated_tokens)

    def predict_quantiles(self, request: Request, generated_tokens: int = 0) -> list[float]:
        """Totals at each of ``QUANTILES``: the prediction with the errors that are still possible."""
        first = self.predict(request)
        if self._model is None:
            return self.prior.predict_quantiles(request, generated_tokens)
        found = self._residuals.quantiles(request.task, first, generated_tokens)
        return found or certain(overrun(first, generated_tokens))

    def observe(self, request: Request, output_tokens: int) -> None:
        """A request has finished: remember it, and fit anew when enough has come together."""
        asked = self._asked.pop(request.request_id, None)
        row = asked[0] if asked is not None else self._memory.row(request)
        self._memory.add(request, output_tokens)
        if self.frozen:
            return
        self.prior.observe(request, output_tokens)
        self._remember(row, output_tokens)
        if self._fresh >= (self.retrain_every if self._model is not None else self.min_samples):
            self.fit()

    def train(self, samples: Sequence[Sample]) -> None:
        """Learn from a recorded set at once."""
        for request, output_tokens in samples:
            self._remember(self._memory.row(request), output_tokens)
            self._memory.add(request, output_tokens)
            self.prior.observe(request, output_tokens)
        if len(self._finished) >= self.min_samples:
            self.fit()

    def fit(self) -> None:
        """Fit on the window: first on a part, to see how far the model errs on the rest, then on all of it."""
        with one_thread():
            self._fit()

    def _fit(self) -> None:
        rows = [row for row, _ in self._finished]
        logs = np.array([value for _, value in self._finished])
        seed = int(self._rng.integers(1 << 31))
        matrix = self.features.fit(rows, logs, seed)
        # The newest part is held out: it is what the next requests will look like, and no turn is tested on later ones.
        cut = len(rows) - max(int(_HELD_OUT * len(rows)), 1)
        order = np.random.default_rng(seed).permutation(len(rows)) if self.fits == 0 else np.arange(len(rows))
        known, rest = order[:cut], order[cut:]
        judge = self.make(seed)
        judge.fit(matrix[known], logs[known])
        self._residuals.fit([rows[i].task for i in rest], logs[rest] - judge.predict(matrix[rest]))
        self._model = self.make(seed)
        self._model.fit(matrix, logs)
        self._fresh = 0
        self.fits += 1

    def _first(self, request: Request, row: Row) -> float:
        if self._model is None:
            return self.prior.predict(request)
        with one_thread():
            log = float(self._model.predict(self.features.matrix([row]))[0]) + self._residuals.median(row.task)
        return overrun(math.exp(min(log, 50.0)), 0)

    def _remember(self, row: Row, output_tokens: int) -> None:
        self._finished.append((row, math.log(output_tokens)))
        self._fresh += 1
        if len(self._finished) > self.window:
            self._finished.popleft()


@dataclass
class Learned:
    """What predictors that learn online share. Each calls ``learn`` once, with the way to make its model."""

    text_dimensions: int = 32
    """Dimensions that the TF-IDF vector is reduced to."""
    min_samples: int = 200
    """Finished requests before the first fit."""
    retrain_every: int = 1000
    """Finished requests between two fits."""
    window: int = 6000
    """Most recent finished requests that a fit uses."""
    train_path: str = ""
    """A recorded set (JSON lines, see ``corpus``) to learn from before the run; empty: none."""
    _online: OnlineRegression = field(init=False, repr=False, compare=False)

    def learn(self, make: Callable[[int], Regression]) -> None:
        """Begin, with a recorded set where ``train_path`` names one; raises ``ConfigError`` for fields out of range."""
        check_counts(self, "text_dimensions", "min_samples", "retrain_every", "window")
        features = Features(self.text_dimensions)
        self._online = OnlineRegression(
            make, features, self.min_samples, self.retrain_every, self.window, prior=ClassMean()
        )
        if self.train_path:
            self._online.train(read_corpus(self.train_path))

    def seed(self, rng: np.random.Generator) -> None:
        """Draw from ``rng``."""
        self._online.seed(rng)

    def predict(self, request: Request, generated_tokens: int = 0) -> float:
        """Expected total output tokens."""
        return self._online.predict(request, generated_tokens)

    def predict_quantiles(self, request: Request, generated_tokens: int = 0) -> list[float]:
        """Totals at each of ``QUANTILES``, from the errors on requests that the model was not trained on."""
        return self._online.predict_quantiles(request, generated_tokens)

    def observe(self, request: Request, output_tokens: int) -> None:
        """Learn from a finished request."""
        self._online.observe(request, output_tokens)

    def repredict(self, requests: Sequence[Request], generated_tokens: np.ndarray, first: np.ndarray) -> Floats:
        """Totals of many requests, from their first predictions and what they have generated."""
        return self._online.repredict(requests, generated_tokens, first)

    def train(self, samples: Sequence[Sample]) -> None:
        """Learn from a recorded set."""
        self._online.train(samples)

    def freeze(self) -> None:
        """No more fits from now on."""
        self._online.frozen = True
