"""One pooled gradient-boosted model: what experts have to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gsim.core import register
from gsim.core.view import Floats
from gsim.prediction.mixture import boosted_trees
from gsim.prediction.online import Learned
from gsim.prediction.options import check_counts


@register("predictor", "pooled_gbdt")
@dataclass
class PooledGbdt(Learned):
    """The features, online retraining and re-prediction of ``moe``, with a single model for all requests.

    Source: this project, as the control of ``moe``.
    """

    trees: int = 160
    """Boosting rounds."""

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
