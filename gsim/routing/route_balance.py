"""RouteBalance: latency learned per kind of instance, on a state that is reckoned on between scrapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

from gsim.core import ClusterView, Completion, Decision, Request, register
from gsim.core.view import REFERENCE_SEQUENCES, Floats, Ints
from gsim.routing.choice import lowest, nothing
from gsim.routing.online_regression import OnlineRegression


class _Sent(NamedTuple):
    """What was known of a request when it was sent."""

    instance: int
    sent_s: float
    first_token_x: Floats
    tpot_x: Floats


class _Kind:
    """What is learned of one GPU type."""

    def __init__(self, prefill_s: float, alone_s: float, slope_s: float) -> None:
        # Seconds: constant, per prompt token ahead of it, per prompt token of its own.
        self.first_token = OnlineRegression(
            prior=np.array([0.0, prefill_s, prefill_s]), scale=np.array([0.2, prefill_s, prefill_s])
        )
        # Seconds per token: constant, per request in the batch, for a full KV cache.
        self.tpot = OnlineRegression(
            prior=np.array([alone_s, slope_s, 0.0]), scale=np.array([alone_s, slope_s + 0.02 * alone_s, alone_s])
        )


@register("router", "route_balance")
@dataclass
class RouteBalance:
    """argmin TTFT_i + TPOT_i L_out, both learned per GPU type from the state in which requests were sent.

        TTFT_i = a0 + a1 P_i + a2 L_in        TPOT_i = b0 + b1 N_i + b2 K_i

    P_i prompt tokens in flight without a first token; N_i and K_i requests and KV usage as last scraped, *reckoned on*:
    plus what was sent since, less what finished since, so that decisions between two scrapes do not all go to one place
    (N by the gateway, ``telemetry.in_flight_correction``; K here, by prompt tokens). a and b by recursive least squares
    over what finished, from nominal speeds. Ties: the lowest index.

    State: prompt tokens in flight (S1), running, waiting and KV usage (S2), nominal speeds (S5), learned lines (S6), a
    length predictor. Source: RouteBalance (arXiv 2606.17949, github.com/AKafakA/route-balance), its latency preset.
    Simplified: lines that are learned as requests finish, where upstream has trees (XGBoost) trained beforehand on a
    sweep of each kind of instance; its quality and cost terms are left out (there is one model), and so are its filters
    by objective and its batches, within which the longest requests choose first.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"scrape", "prediction"})
    _kinds: dict[str, _Kind] = field(default_factory=dict, init=False, repr=False, compare=False)
    _of: list[_Kind] = field(default_factory=list, init=False, repr=False, compare=False)
    """Per instance."""
    _index: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64), init=False, repr=False, compare=False)
    """Per instance: which of the kinds."""
    _since_tokens: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)
    """Per instance: prompt tokens sent since its last scrape, less those of requests that finished."""
    _scraped_s: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)
    _asked: tuple[int, float, Floats, Floats] | None = field(default=None, init=False, repr=False, compare=False)
    """The request that was routed last, when, and its features on every instance."""
    _sent: dict[int, _Sent] = field(default_factory=dict, init=False, repr=False, compare=False)

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The instance that is predicted to finish it first."""
        n = len(view)
        if len(self._of) != n:
            self._meet(view)
        self._look(view)
        first_token_x, tpot_x = np.empty((n, 3)), np.empty((n, 3))
        first_token_x[:, 0] = tpot_x[:, 0] = 1.0
        first_token_x[:, 1] = view.in_flight_prefill_tokens
        first_token_x[:, 2] = request.prompt_tokens
        tpot_x[:, 1] = view.running + view.waiting
        tpot_x[:, 2] = np.maximum(view.kv_usage + self._since_tokens / view.static.kv_capacity_tokens, 0.0)
        self._asked = (request.request_id, view.now_s, first_token_x, tpot_x)
        kinds = self._kinds.values()
        first_token_s = _at(np.array([kind.first_token.weights for kind in kinds])[self._index], first_token_x)
        latency_s = _at(np.array([kind.tpot.weights for kind in kinds])[self._index], tpot_x)
        # Lines know no bounds: nothing is computed in less than no time.
        np.maximum(latency_s, 1e-4, out=latency_s)
        latency_s *= view.predict(request)
        latency_s += np.maximum(first_token_s, 0.0)
        return lowest(latency_s, view.available)

    def placed(self, request: Request, instance: int) -> None:
        """Reckon on, and remember in which state it was sent."""
        if instance >= len(self._of):
            return
        self._since_tokens[instance] += request.prompt_tokens
        asked, self._asked = self._asked, None
        if asked is None or asked[0] != request.request_id:
            # Moved by other hands: nobody looked.
            self._sent.pop(request.request_id, None)
            return
        # Copies: a row of an array would keep the features on all instances.
        self._sent[request.request_id] = _Sent(instance, asked[1], asked[2][instance].copy(), asked[3][instance].copy())

    def observe_completion(self, completion: Completion) -> None:
        """Learn from it, and reckon on."""
        instance = completion.instance
        if instance >= len(self._of):
            return
        self._since_tokens[instance] -= completion.request.prompt_tokens
        sent = self._sent.pop(completion.request.request_id, None)
        if sent is None or sent.instance != instance:
            return
        kind = self._of[instance]
        first_token_s = completion.first_token_s - sent.sent_s
        kind.first_token.learn(sent.first_token_x, first_token_s, noise=0.05 + 0.2 * first_token_s)
        if completion.output_tokens > 1:
            tpot_s = (completion.finished_s - completion.first_token_s) / (completion.output_tokens - 1)
            kind.tpot.learn(sent.tpot_x, tpot_s, noise=0.2 * tpot_s + 1e-6)

    def _meet(self, view: ClusterView) -> None:
        static, n = view.static, len(view)
        slope_s = static.batch_slope_s()
        alone_s = np.maximum(static.nominal_tpot_s - (REFERENCE_SEQUENCES - 1) * slope_s, 1e-4)
        for i, gpu in enumerate(static.gpu):
            if gpu not in self._kinds:
                prefill_s = float(static.nominal_prefill_s_per_token[i])
                self._kinds[gpu] = _Kind(prefill_s, float(alone_s[i]), float(slope_s[i]))
        names = list(self._kinds)
        self._of = [self._kinds[gpu] for gpu in static.gpu]
        self._index = np.array([names.index(gpu) for gpu in static.gpu])
        self._since_tokens = np.zeros(n)
        self._scraped_s = view.scraped_s.copy()

    def _look(self, view: ClusterView) -> None:
        """What was scraped anew has in it what was reckoned on."""
        if len(self._sent) > 2 * int(view.in_flight.sum()) + 1000:
            # Nobody tells of those that failed or were refused: the oldest are forgotten.
            for request_id in list(self._sent)[: len(self._sent) // 2]:
                del self._sent[request_id]
        anew = view.scraped_s > self._scraped_s
        if anew.any():
            self._since_tokens[anew] = 0.0
            self._scraped_s = view.scraped_s.copy()


def _at(weights: Floats, x: Floats) -> Floats:
    found: Floats = np.einsum("ij,ij->i", weights, x)
    return found
