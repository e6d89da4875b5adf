"""One pooled gradient-boosted model: what experts have to beat."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gsim.core import register
from gsim.core.view import Floats
from gsim.prediction.mixture import boosted_trees
from gsim.prediction.online import Learned, OnlineRegression
from gsim.prediction.options import check_counts


@register("predictor", "pooled_gbdt")
@dataclass
class PooledGbdt(Learned):
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
        check_counts(self, "trees")
        self.learn(lambda seed: _Pooled(boosted_trees(seed, self.trees)))


@dataclass
class _Pooled:
    model: Any

    def fit(self, features: Floats, log_lengths: Floats) -> None:
        self.model.fit(features, log_lengths)

    def predict(self, features: Floats) -> Floats:
        return np.asarray(self.model.predict(features), dtype=np.float64)
