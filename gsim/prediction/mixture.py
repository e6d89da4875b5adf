"""A mixture of experts over log lengths: a gate says which experts know this kind of request."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gsim.core.view import Floats

_LEAST_WEIGHT = 20.0
"""Requests' worth of responsibility below which an expert is dropped."""


def boosted_trees(seed: int, trees: int) -> Any:
    """Gradient-boosted trees that learn the median."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        loss="absolute_error", max_iter=trees, max_leaf_nodes=15, learning_rate=0.08, random_state=seed
    )


@dataclass
class Mixture:
    """Experts (boosted trees) and a softmax gate, fitted by a few rounds of expectation-maximisation.

    Starts from clusters of the features. E: an expert is responsible for a request in proportion to the gate's
    probability times the Laplace likelihood of its error. M: experts are fitted with responsibilities as weights, the
    gate on the most responsible expert. Asked, only the ``active`` most probable experts answer (a sparse gate, as in
    Shazeer et al. 2017), weighted by the gate.
    """

    experts: int
    active: int
    trees: int
    rounds: int
    seed: int
    _mean: Floats = field(default_factory=lambda: np.zeros(0), init=False)
    _scale: Floats = field(default_factory=lambda: np.ones(0), init=False)
    _models: list[Any] = field(default_factory=list, init=False)
    _weights: Floats = field(default_factory=lambda: np.zeros((0, 0)), init=False)
    _offsets: Floats = field(default_factory=lambda: np.zeros(0), init=False)

    def fit(self, features: Floats, log_lengths: Floats) -> None:
        """Fit gate and experts."""
        from sklearn.cluster import KMeans

        self._mean = features.mean(axis=0)
        deviation = features.std(axis=0)
        self._scale = np.where(deviation > 0.0, deviation, 1.0)
        scaled = (features - self._mean) / self._scale
        count = min(self.experts, max(1, int(len(features) / (2 * _LEAST_WEIGHT))))
        clusters = KMeans(count, n_init=2, random_state=self.seed).fit_predict(scaled)
        shares = np.eye(count)[clusters]
        for _ in range(self.rounds):
            shares = shares[:, shares.sum(axis=0) >= _LEAST_WEIGHT]
            self._fit_experts(features, log_lengths, shares)
            self._fit_gate(scaled, shares)
            shares = self._responsibilities(features, scaled, log_lengths, shares)

    def predict(self, features: Floats) -> Floats:
        """Expected log lengths."""
        gate = self._gate((features - self._mean) / self._scale)
        if gate.shape[1] > self.active:
            least = np.sort(gate, axis=1)[:, -self.active][:, None]
            gate = np.where(gate >= least, gate, 0.0)
            gate /= gate.sum(axis=1, keepdims=True)
        answer = np.zeros(len(features))
        for k, model in enumerate(self._models):
            rows = np.flatnonzero(gate[:, k] > 0.0)
            if len(rows):
                answer[rows] += gate[rows, k] * model.predict(features[rows])
        return answer

    def _fit_experts(self, features: Floats, log_lengths: Floats, shares: Floats) -> None:
        self._models = []
        for k in range(shares.shape[1]):
            rows = np.flatnonzero(shares[:, k] > 1e-3)
            model = boosted_trees(self.seed + k, self.trees)
            self._models.append(model.fit(features[rows], log_lengths[rows], sample_weight=shares[rows, k]))

    def _fit_gate(self, scaled: Floats, shares: Floats) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        experts = shares.shape[1]
        self._weights = np.zeros((scaled.shape[1], experts))
        self._offsets = np.full(experts, -np.inf)
        labels = shares.argmax(axis=1)
        present = np.unique(labels)
        if len(present) == 1:
            self._offsets[present] = 0.0
            return
        with warnings.catch_warnings():
            # A gate that has not fully converged is still a gate: its experts are fitted to it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            gate = LogisticRegression(C=10.0, max_iter=200).fit(scaled, labels)
        if len(present) == 2:
            self._weights[:, present[1]] = gate.coef_[0]
            self._offsets[present] = (0.0, gate.intercept_[0])
        else:
            self._weights[:, present] = gate.coef_.T
            self._offsets[present] = gate.intercept_

    def _gate(self, scaled: Floats) -> Floats:
        logits = scaled @ self._weights + self._offsets
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        normed: Floats = odds / odds.sum(axis=1, keepdims=True)
        return normed

    def _responsibilities(self, features: Floats, scaled: Floats, log_lengths: Floats, shares: Floats) -> Floats:
        errors = np.stack([np.abs(log_lengths - model.predict(features)) for model in self._models], axis=1)
        scale = np.maximum((errors * shares).sum(axis=0) / shares.sum(axis=0), 0.02)
        with np.errstate(divide="ignore"):
            logs = np.log(self._gate(scaled)) - errors / scale - np.log(scale)
        logs -= logs.max(axis=1, keepdims=True)
        odds = np.exp(logs)
        normed: Floats = odds / odds.sum(axis=1, keepdims=True)
        return normed
