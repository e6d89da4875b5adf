"""The mixture-of-experts length predictor."""

from __future__ import annotations

from dataclasses import dataclass

from gsim.core import register
from gsim.prediction.mixture import Mixture
from gsim.prediction.online import Learned
from gsim.prediction.options import check_counts


@register("predictor", "moe")
@dataclass
class MixtureOfExperts(Learned):
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

    def __post_init__(self) -> None:
        check_counts(self, "experts", "active_experts", "trees", "em_rounds")
        self.learn(lambda seed: Mixture(self.experts, self.active_experts, self.trees, self.em_rounds, seed))
