"""One pooled gradient-boosted model: what experts have to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gsim.core import Request, register
from gsim.core.view import Floats
from gsim.prediction.class_mean import ClassMean
from gsim.prediction.corpus import Sample, read_corpus
from gsim.prediction.features import Features
from gsim.prediction.mixture import boosted_trees
from gsim.prediction.online import OnlineRegression
from gsim.prediction.options import check_counts


@register("predictor", "pooled_gbdt")
@dataclass
class PooledGbdt:
    """The features, online retraining and re-prediction of ``moe``, with a single model for all requests.

    Source: this project, as the control of ``moe``.
    """

    trees: int = 160
    """Boosting rounds."""
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

    def __post_init__(self) -> None:
        check_counts(self, "trees", "text_dimensions", "min_samples", "retrain_every", "window")
        self._online = OnlineRegression(
            make=lambda seed: _Pooled(boosted_trees(seed, self.trees)),
            features=Features(self.text_dimensions),
            min_samples=self.min_samples,
            retrain_every=self.retrain_every,
            window=self.window,
            prior=ClassMean(),
        )
        if self.train_path:
            self._online.train(read_corpus(self.train_path))

    def seed(self, rng: np.random.Generator) -> None:
        """Draw from ``rng``."""
        self._online.seed(rng)

    def predict(self, request: Request, generated_tokens: int = 0) -> float:
        """Expected total output tokens."""
        return self._online.predict(request, generated_tokens)

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


@dataclass
class _Pooled:
    model: Any

    def fit(self, features: Floats, log_lengths: Floats) -> None:
        self.model.fit(features, log_lengths)

    def predict(self, features: Floats) -> Floats:
        return np.asarray(self.model.predict(features), dtype=np.float64)
