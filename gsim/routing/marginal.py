"""Where a request adds most to what is in time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

from gsim.core import ActiveRequests, ClusterView, Completion, ConfigError, Decision, Request, register
from gsim.core.view import FULL_SEQUENCES, REFERENCE_SEQUENCES, Floats
from gsim.routing.chance import chances
from gsim.routing.choice import lowest
from gsim.routing.delay_costs import DelayCosts, Running
from gsim.routing.moving_mean import MovingMean
from gsim.routing.recalibration import Recalibration


class _Sent(NamedTuple):
    request: Request
    instance: int
    predicted: float
    tokens: float
    length_variance: float
    wait_s: float
    """Queue and prefill."""
    tpot_s: float
    sent_s: float


@register("router", "marginal")
@dataclass
class Marginal:
    """draft"""

    price: float = 2.0
    haste: float = 0.05
    base_price: float = 1.0
    needs: ClassVar[frozenset[str]] = frozenset({"estimates", "prediction", "prefix", "requests"})
    _costs: DelayCosts = field(default_factory=DelayCosts, init=False, repr=False, compare=False)
    _lengths: Recalibration = field(default_factory=Recalibration, init=False, repr=False, compare=False)
    _errors: list[MovingMean] = field(default_factory=list, init=False, repr=False, compare=False)
    _seen: ActiveRequests | None = field(default=None, init=False, repr=False, compare=False)
    _sent: dict[int, _Sent] = field(default_factory=dict, init=False, repr=False, compare=False)
    _missing: MovingMean = field(default_factory=lambda: MovingMean(0.01, 0.0, 0.0, 50.0), init=False)

    def _attach(self, view: ClusterView) -> None:
        static = view.static
        full_s = FULL_SEQUENCES / static.nominal_tokens_per_s
        self._slope = np.maximum(full_s - static.nominal_tpot_s, 0.0) / (FULL_SEQUENCES - REFERENCE_SEQUENCES)
        n = len(view)
        self._errors = [MovingMean(0.02, 0.0, 0.04, 20.0) for _ in range(n)]
        self._bias, self._variance = np.zeros(n), np.full(n, 0.04)
        self._remaining = np.zeros(n)
        self._pending = None
        self._costs.table = np.zeros((n, 13))
        self._costs.count = np.zeros(n)

    def route(self, request: Request, view: ClusterView) -> Decision:
        if not self._errors:
            self._attach(view)
        seen = view.observed()
        if seen is not self._seen:
            self._observe(seen, view)
        predicted = view.predict(request)
        tokens, length_variance = self._lengths.length(request.task, predicted)
        compute = view.prefill_s_per_token * np.maximum(request.prompt_tokens - view.prefix_tokens(request), 1.0)
        wait = view.queue_s + compute
        tpot = view.tpot_s + self._slope
        decode = tpot * tokens
        latency = wait + decode
        variance = self._variance + length_variance * (decode / latency) ** 2
        left = request.deadline_s - view.now_s
        if left > 0:
            z = (np.log(left / latency) - self._bias) / np.sqrt(variance)
            in_time = chances(z)
        else:
            in_time = np.zeros(len(view))
        delay = compute + self._slope * np.minimum(self._remaining, tokens)
        harm = self._costs.of(delay)
        best = float((in_time * view.available).max())
        self._missing.learn(1.0 - best)
        w = self.base_price + self.price * self._missing.mean
        score = w * harm - in_time + self.haste * latency / max(left, 0.1 * request.slo_s)
        chosen = lowest(score, view.available)
        self._pending = (request, predicted, tokens, length_variance, wait, tpot, view.now_s)
        return chosen

    def placed(self, request: Request, instance: int) -> None:
        p = self._pending
        if p is None or p[0].request_id != request.request_id:
            self._sent.pop(request.request_id, None)
            return
        _, predicted, tokens, lv, wait, tpot, now = p
        self._pending = None
        s = _Sent(request, instance, predicted, tokens, lv, float(wait[instance]), float(tpot[instance]), now)
        self._sent[request.request_id] = s
        T = s.wait_s + s.tpot_s * tokens
        dev = np.sqrt(self._variance[instance] + lv * (s.tpot_s * tokens / T) ** 2)
        one = Running(np.array([instance]), np.array([1e-3]), np.array([request.deadline_s - now]),
                      np.array([T * np.exp(self._bias[instance])]), np.array([dev]))
        self._costs.add(instance, one.made_late()[0])

    def observe_completion(self, completion: Completion) -> None:
        if not self._errors:
            return
        i = completion.instance
        self._costs.take_one(i)
        s = self._sent.pop(completion.request.request_id, None)
        if s is None or s.instance != i:
            return
        self._lengths.learn(s.request.task, s.predicted, completion.output_tokens)
        expected = s.wait_s + s.tpot_s * completion.output_tokens
        e = self._errors[i]
        e.learn(float(np.log((completion.finished_s - s.sent_s) / expected)))
        self._bias[i], self._variance[i] = e.mean, max(e.variance, 0.01)

    def _observe(self, seen: ActiveRequests, view: ClusterView) -> None:
        self._seen = seen
        i = seen.instance
        sent = self._sent
        rows = [sent.get(r) for r in seen.request_id.tolist()]
        ratio = np.array([1.0 if s is None else s.tokens / s.predicted for s in rows])
        lv = np.array([0.09 if s is None else s.length_variance for s in rows])
        wait = np.array([0.0 if s is None else s.wait_s for s in rows])
        g = seen.generated_tokens
        rem = np.maximum(seen.predicted_tokens * ratio - g, 1.0)
        elapsed = np.maximum(seen.observed_s - seen.dispatched_s, 1e-3)
        bias = np.exp(self._bias[i])
        dec = rem * view.tpot_s[i]
        rest = dec + np.where(g > 0, 0.0, np.maximum(wait - elapsed, 0.0))
        expected = elapsed + rest * bias
        dev = np.sqrt(self._variance[i] * (rest / expected) ** 2 + lv * (dec / expected) ** 2) + 0.02
        running = Running(i, elapsed, seen.deadline_s - seen.dispatched_s, expected, dev)
        n = len(view)
        self._costs.reset(n, running)
        self._remaining = np.bincount(i, weights=rem, minlength=n) / np.maximum(self._costs.count, 1.0)
        # who was placed after the observation
        ids = set(seen.request_id.tolist())
        for r, s in sent.items():
            if r not in ids and s.sent_s >= seen.observed_s:
                self._costs.add(s.instance, np.zeros(13))
