"""GoodServe: predict, then just enough."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import numpy as np

from gsim.core import HOLD, REJECT, ClusterView, ConfigError, Decision, Request, Verdict, register
from gsim.core.view import Floats
from gsim.routing.choice import highest_within, lowest, nothing
from gsim.routing.latency import FEW, latency_of_few, predicted_latency, slowest_of_few

Weakest = Literal["largest_latency", "slowest_then_largest_latency"]
Infeasible = Literal["fastest", "sacrifice", "reject", "defer"]


@register("router", "goodserve")
@dataclass
class GoodServe:
    """Just enough: the weakest instance that is predicted to meet the deadline; the strong ones are kept free.

    T_i = q_i + p_i * L_in + d_i * L_out with q, p, d black-box estimates and L_out predicted.
    F = {i available: now + T_i <= deadline - margin}. F not empty: the weakest of F. F empty: the fastest instance, if
    that may still make it; else the request is lost, and ``infeasible`` says what to do. Ties: the lowest index.

    State: learned estimates (S6), nominal speed (S5, one reading of "weakest") and the length predictor. Source: the
    GoodServe paper (arXiv 2605.16867), Eq. 1 and the just-enough selection. What it leaves open is a field here. The
    smoothing factor of the estimates is a field of the estimator.
    """

    margin_s: float = 0.0
    """Seconds to spare before the deadline, for an instance to count as feasible (negative: accept being late)."""
    margin_fraction: float = 0.5
    """The same as a share of T_i: the longer a request is predicted to run, the more can go wrong."""
    weakest: Weakest = "largest_latency"
    """What weakest means: ``largest_latency`` (largest T in F) or ``slowest_then_largest_latency`` (lowest nominal
    decode speed in F, then largest T)."""
    infeasible: Infeasible = "fastest"
    """What to do with a request that is lost: ``fastest`` (smallest T: best effort), ``sacrifice`` (largest T: the lost
    gather where they take nothing from those that can still make it), ``reject``, or ``defer`` (hold at the gateway
    until something changes; reject once the deadline has passed)."""
    hope: float = 0.2
    """A request is lost when its smallest T exceeds the time left by more than this share: predictions err."""
    needs: ClassVar[frozenset[str]] = frozenset({"estimates", "prediction"})
    _latency: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)
    _rank: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self)

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The just-good-enough instance for one request."""
        n = len(view.available)
        left_s = request.arrival_s + request.slo_s - view.now_s
        limit_s = (left_s - self.margin_s) / (1.0 + self.margin_fraction)
        prefill_tokens, output_tokens = self._prefill_tokens(request, view), view.predict(request)
        if n <= FEW:
            few = latency_of_few(view, prefill_tokens, output_tokens)
            chosen = self._weakest_of_few(few, limit_s, view)
            if chosen is not None:
                return chosen
            latency = np.array(few)
        else:
            if len(self._latency) != n:
                self._latency, self._rank = np.empty(n), np.empty(n)
            latency = predicted_latency(view, prefill_tokens, output_tokens, self._latency)
            chosen = self._weakest_within(limit_s, view)
            if chosen is not None:
                return chosen
        fastest = lowest(latency, view.available)
        if self.infeasible == "fastest" or isinstance(fastest, Verdict):
            return fastest
        if latency[fastest] <= left_s * (1.0 + self.hope):
            return fastest
        if self.infeasible == "sacrifice":
            return lowest(np.where(view.available, -latency, np.inf), view.available)
        if self.infeasible == "reject" or view.now_s > request.deadline_s:
            return REJECT
        return HOLD

    def _prefill_tokens(self, request: Request, view: ClusterView) -> float | Floats:
        return request.prompt_tokens

    def _weakest_of_few(self, latency: list[float], limit_s: float, view: ClusterView) -> int | None:
        """As ``_weakest_within``, by plain numbers."""
        if self.weakest == "largest_latency":
            return slowest_of_few(latency, limit_s, view)
        available, nominal = view.available.tolist(), view.static.nominal_tpot_s.tolist()
        feasible = [i for i, seconds in enumerate(latency) if seconds <= limit_s and available[i]]
        return max(feasible, key=lambda i: (nominal[i], latency[i]), default=None)

    def _weakest_within(self, limit_s: float, view: ClusterView) -> int | None:
        """The weakest feasible instance; None if there is none."""
        latency, rank = self._latency, self._rank
        if self.weakest == "largest_latency":
            best = highest_within(latency, limit_s, rank)
            if view.available[best]:
                return best if latency[best] <= limit_s else None
        feasible = (latency <= limit_s) & view.available
        if self.weakest == "slowest_then_largest_latency":
            np.multiply(view.static.nominal_tpot_s, feasible, rank)
            feasible &= rank >= rank.max()
        # Latencies are positive: multiplied by the mask, the largest one is feasible if any is.
        best = int(np.multiply(latency, feasible, rank).argmax())
        return best if feasible[best] else None


@register("router", "goodserve_prefix")
@dataclass
class GoodServePrefix(GoodServe):
    """GoodServe that knows what is cached: T_i = q_i + p_i * (L_in - h_i) + d_i * L_out.

    h_i: prompt tokens that instance i probably has cached, from the gateway's approximate prefix index (S3). All else
    as ``goodserve``. Source: this project; the paper's T has no prefix term.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"estimates", "prediction", "prefix"})

    def _prefill_tokens(self, request: Request, view: ClusterView) -> float | Floats:
        # The last token of a prompt is computed even on a full hit.
        return np.maximum(request.prompt_tokens - view.prefix_tokens(request), 1.0)


def _check(config: GoodServe) -> None:
    if not np.isfinite(config.margin_s):
        raise ConfigError(f"router.margin_s must be a number, not {config.margin_s}")
    for name in ("margin_fraction", "hope"):
        if not 0 <= getattr(config, name) < np.inf:
            raise ConfigError(f"router.{name} must be 0 or more, not {getattr(config, name)}")
    for name, allowed in (("weakest", get_args(Weakest)), ("infeasible", get_args(Infeasible))):
        if getattr(config, name) not in allowed:
            raise ConfigError(f"router.{name} '{getattr(config, name)}' is unknown; allowed: {', '.join(allowed)}")
