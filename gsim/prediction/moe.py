"""The mixture-of-experts length predictor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gsim.core import Request, register
from gsim.core.view import Floats
from gsim.prediction.class_mean import ClassMean
from gsim.prediction.corpus import Sample, read_corpus
from gsim.prediction.features import Features
from gsim.prediction.mixture import Mixture
from gsim.prediction.online import OnlineRegression
from gsim.prediction.options import check_counts


@register("predictor", "moe")
@dataclass
class MixtureOfExperts:
    """TF-IDF prompt features, a gate over experts, retrained online from what has finished.

    Looks at the prompt's words (where the trace has text), its size, the session's earlier turns and the task class.
    As tokens appear, the total is re-predicted from the errors that are still possible (``Residuals``). Before the
    first fit: the class's mean. Retraining takes no simulated time (a gateway does it beside).

    Source: GoodServe (arXiv 2605.16867) names a mixture of experts and TF-IDF; the rest is this project's.
    """

    experts: int = 4
    """How many experts."""
    active_experts: int = 2
    """How many of them answer for one request."""
    trees: int = 80
    """Boosting rounds per expert."""
    em_rounds: int = 2
    """Rounds of expectation-maximisation per fit."""
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
        check_counts(self, "experts", "active_experts", "trees", "em_rounds", "text_dimensions")
        check_counts(self, "min_samples", "retrain_every", "window")
        self._online = OnlineRegression(
            make=lambda seed: Mixture(self.experts, self.active_experts, self.trees, self.em_rounds, seed),
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
