"""The truth with an error of a given size: what a policy's gain is worth with a predictor that errs so much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gsim.core import ConfigError, Job, Request, register
from gsim.core.view import Floats
from gsim.prediction.draws import Draws
from gsim.prediction.overrun import overrun, overrun_all
from gsim.prediction.spread import log_normal


@register("predictor", "noisy")
@dataclass
class Noisy:
    """truth * exp(bias + error * z + shrinkage * (m - log truth)), a declared oracle that errs.

    z = sqrt(rho) * z_session + sqrt(1 - rho) * z_request is standard normal, rho = ``turn_correlation``; m is the mean
    log length of the request's task so far. A request's error is its own: the same for every router, in any order.
    """

    error: float = 0.3
    """Standard deviation of the log error: 0.3 means that 68 % of predictions lie within a factor of 1.35."""
    error_by_task: dict[str, float] = field(default_factory=dict)
    """The same for single task classes, where it differs."""
    bias: float = 0.0
    """Mean of the log error (0.2: 22 % too long)."""
    shrinkage: float = 0.0
    """How far predictions are drawn to the typical length of their class, in [0, 1] (1: they only know the class)."""
    turn_correlation: float = 0.0
    """Correlation of the errors of two turns of one session, in [0, 1]."""
    refines: bool = False
    """Whether a re-prediction errs only on what remains (a predictor that watches the tokens); else the first
    prediction stands until it is overrun."""
    _predicted: dict[int, tuple[float, float, float]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Per request: prediction, truth, and the factor between them."""
    _log_sums: dict[str, tuple[float, int]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _of_request: Draws = field(init=False, repr=False, compare=False)
    _of_session: Draws = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, value in (("error", self.error), *((f"error_by_task.{k}", v) for k, v in self.error_by_task.items())):
            if not 0 <= value < math.inf:
                raise ConfigError(f"predictor.{name} must be 0 or more, not {value}")
        if not math.isfinite(self.bias):
            raise ConfigError(f"predictor.bias must be a number, not {self.bias}")
        for name in ("shrinkage", "turn_correlation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"predictor.{name} must be in [0, 1], not {getattr(self, name)}")
        self.seed(np.random.default_rng(0))

    def seed(self, rng: np.random.Generator) -> None:
        """Draw from ``rng``."""
        self._of_request = Draws.normal(rng)
        self._of_session = Draws.normal(rng)

    def reveal(self, job: Job) -> None:
        """Be shown the truth of one job: its prediction is made now."""
        request = job.request
        truth = float(job.output_tokens)
        z = self._of_request.of(request.request_id)
        rho = self.turn_correlation
        if rho > 0.0 and request.session_id >= 0:
            z = math.sqrt(1.0 - rho) * z + math.sqrt(rho) * self._of_session.of(request.session_id)
        log_error = self.bias + self.error_by_task.get(request.task, self.error) * z
        if self.shrinkage > 0.0:
            log_error += self.shrinkage * self._off_class(request.task, math.log(truth))
        if not -50.0 <= log_error <= 50.0:
            # exp() of anything beyond is no length any more.
            log_error = math.copysign(50.0, log_error)
        factor = math.exp(log_error)
        self._predicted[request.request_id] = (max(truth * factor, 1.0), truth, factor)

    def predict(self, request: Request, generated_tokens: int = 0) -> float:
        """The prediction of a revealed request; ``max_tokens`` for one that was never revealed."""
        known = self._predicted.get(request.request_id)
        if known is None:
            return overrun(float(request.max_output_tokens), generated_tokens)
        first, truth, factor = known
        if self.refines and generated_tokens > 0:
            return generated_tokens + max((truth - generated_tokens) * factor, 1.0)
        return overrun(first, generated_tokens)

    def predict_quantiles(self, request: Request, generated_tokens: int = 0) -> list[float]:
        """Log-normal around the prediction, less its bias, as wide as the error: a predictor that knows how it errs.

        What ``shrinkage`` adds to the error is not in it.
        """
        known = self._predicted.get(request.request_id)
        first = float(request.max_output_tokens) if known is None else known[0]
        deviation = self.error_by_task.get(request.task, self.error)
        unbiased = math.exp(-max(-50.0, min(self.bias, 50.0)))
        if known is not None and self.refines and generated_tokens > 0:
            rest = self.predict(request, generated_tokens) - generated_tokens
            return [generated_tokens + tokens for tokens in log_normal(max(rest * unbiased, 1.0), deviation, 0)]
        return log_normal(max(first * unbiased, 1.0), deviation, generated_tokens)

    def observe(self, request: Request, output_tokens: int) -> None:
        """The request is over: forget it."""
        self._predicted.pop(request.request_id, None)

    def repredict(self, requests: Sequence[Request], generated_tokens: np.ndarray, first: np.ndarray) -> Floats:
        """The same for many."""
        first = np.asarray(first, dtype=np.float64)
        if not self.refines:
            return overrun_all(first, generated_tokens)
        pairs = zip(requests, np.asarray(generated_tokens).tolist(), strict=True)
        return np.array([self.predict(request, tokens) for request, tokens in pairs], dtype=np.float64)

    def _off_class(self, task: str, log_truth: float) -> float:
        total, count = self._log_sums.get(task, (0.0, 0))
        total, count = total + log_truth, count + 1
        self._log_sums[task] = (total, count)
        return total / count - log_truth
