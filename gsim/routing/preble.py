"""Preble's E2: exploit a cached prefix, or explore by cost."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gsim.core import ClusterView, Completion, ConfigError, Decision, Request, Verdict, register
from gsim.core.construct import FloatOrInf
from gsim.core.view import Floats, Ints
from gsim.routing.choice import Drawing, lowest_at_random


@register("router", "preble")
@dataclass
class Preble(Drawing):
    """More of the prompt cached than new: the cheapest holder of the longest match; else the cheapest instance.

    cost_i = p_i * (prompt tokens missed on i in the last ``window_s`` + those this request would miss)
    + (requests sent to i in the window + 1) * G * d_i, with G the median output of recent requests.
    A holder that costs more than ``rebalance`` times the cheapest instance loses the request to that one. Ties at
    random.

    State: the router's own window of what it sent (S1), approximate prefix index (S3), nominal speeds (S5). Source:
    Preble ``global_scheduler_with_time`` (window 3 minutes; 1.5), AIBrix ``prefix-cache-preble`` (45 output tokens when
    cold). Simplified: upstream sums over the nodes of a radix tree, sharing a node's prefill among the GPUs that hold
    it; here each instance is charged what it missed. Replication of hot prefixes (doubled TTFT) is left out.
    """

    window_s: float = 180.0
    """How far back load counts (upstream: 3 minutes)."""
    rebalance: FloatOrInf = 1.5
    """Cost ratio above which a holder is passed over (upstream: 1.5); inf: never."""
    cold_output_tokens: float = 45.0
    """Output length before anything has finished (upstream: 45)."""
    needs: ClassVar[frozenset[str]] = frozenset({"prefix"})
    _sent: deque[tuple[float, int, int]] = field(default_factory=deque, init=False, repr=False, compare=False)
    """When, where and how many prompt tokens were missed, oldest first."""
    _missed: Floats = field(default_factory=lambda: np.zeros(0), init=False, repr=False, compare=False)
    _requests: Floats = field(default_factory=lambda: np.zeros(0), init=False, repr=False, compare=False)
    _outputs: deque[int] = field(default_factory=lambda: deque(maxlen=101), init=False, repr=False, compare=False)
    _median: float = field(default=0.0, init=False, repr=False, compare=False)
    _now_s: float = field(default=0.0, init=False, repr=False, compare=False)
    _asked: tuple[int, Ints | None] = field(default=(-1, None), init=False, repr=False, compare=False)
    """The request that was routed last, and its matches."""

    def __post_init__(self) -> None:
        if not self.window_s > 0:
            raise ConfigError(f"router.window_s must be greater than 0, not {self.window_s}")
        if not self.rebalance >= 1:
            raise ConfigError(f"router.rebalance must be 1 or more, not {self.rebalance}")
        if not self.cold_output_tokens > 0:
            raise ConfigError(f"router.cold_output_tokens must be greater than 0, not {self.cold_output_tokens}")

    def placed(self, request: Request, instance: int) -> None:
        """A request was sent: its missed tokens count as load for a while."""
        asked_id, matched = self._asked
        hit = int(matched[instance]) if matched is not None and asked_id == request.request_id else 0
        missed = max(request.prompt_tokens - hit, 0)
        self._grow(instance + 1)
        self._sent.append((self._now_s, instance, missed))
        self._missed[instance] += missed
        self._requests[instance] += 1.0

    def observe_completion(self, completion: Completion) -> None:
        """Remember how long outputs are."""
        self._outputs.append(completion.output_tokens)
        self._median = float(sorted(self._outputs)[len(self._outputs) // 2])

    def route(self, request: Request, view: ClusterView) -> Decision:
        """Exploit or explore."""
        self._grow(len(view))
        self._expire(view.now_s)
        matched = view.prefix_tokens(request)
        self._asked = (request.request_id, matched)
        cost = self._cost(request, view, matched)
        cheapest = lowest_at_random(cost.copy(), view.available, self._rng)
        if isinstance(cheapest, Verdict):
            return cheapest
        longest = int(matched[view.available].max())
        if longest > request.prompt_tokens - longest:
            holder = lowest_at_random(cost.copy(), view.available & (matched == longest), self._rng)
            if not isinstance(holder, Verdict) and cost[holder] <= self.rebalance * cost[cheapest]:
                return holder
        return cheapest

    def _cost(self, request: Request, view: ClusterView, matched: Ints) -> Floats:
        static = view.static
        output = self._median if self._outputs else self.cold_output_tokens
        missed = self._missed + np.maximum(request.prompt_tokens - matched, 0)
        cost: Floats = static.nominal_prefill_s_per_token * missed
        cost += (self._requests + 1.0) * (output * static.nominal_tpot_s)
        return cost

    def _expire(self, now_s: float) -> None:
        self._now_s = now_s
        while self._sent and self._sent[0][0] < now_s - self.window_s:
            _, instance, missed = self._sent.popleft()
            self._missed[instance] -= missed
            self._requests[instance] -= 1.0

    def _grow(self, n: int) -> None:
        missing = n - len(self._missed)
        if missing > 0:
            self._missed = np.concatenate([self._missed, np.zeros(missing)])
            self._requests = np.concatenate([self._requests, np.zeros(missing)])
