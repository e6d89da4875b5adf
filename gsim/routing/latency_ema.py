"""Lowest recent latency per output token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from gsim.core import ClusterView, Completion, ConfigError, Decision, Request, register
from gsim.core.construct import FloatOrInf
from gsim.core.view import Floats
from gsim.routing.choice import Drawing, any_of

Latency = Literal["per_token", "first_token"]


@register("router", "latency_ema")
@dataclass
class LatencyEma(Drawing):
    """One at random of those with s_i <= (1 + buffer) * min s, s_i the mean of the last 10 E2E seconds per token.

    An instance that was never used has s_i = 0 and is explored first; samples older than ``ttl_s`` are forgotten.
    With ``latency=first_token`` the samples are times to first token, as upstream's are of clients that stream.

    State: learned from completions (S6). Source: LiteLLM ``latency-based-routing``. Simplified: no rate limits, no
    1000 s penalty for timeouts (nothing times out here), one list for all clients.
    """

    latency: Latency = "per_token"
    """What is averaged: ``per_token`` (E2E over output tokens) or ``first_token`` (TTFT)."""
    samples: int = 10
    """How many completions per instance are averaged (upstream: 10)."""
    lowest_latency_buffer: float = 0.0
    """Share above the lowest latency within which instances count as equal (upstream: 0)."""
    ttl_s: FloatOrInf = 3600.0
    """An instance without a completion for this long counts as never used (upstream: 1 hour; inf: none does)."""
    _recent: dict[int, list[float]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _mean: Floats = field(default_factory=lambda: np.zeros(0), init=False, repr=False, compare=False)
    _last_s: Floats = field(default_factory=lambda: np.zeros(0), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.latency not in get_args(Latency):
            raise ConfigError(f"router.latency '{self.latency}' is unknown; allowed: {', '.join(get_args(Latency))}")
        if self.samples < 1:
            raise ConfigError(f"router.samples must be 1 or more, not {self.samples}")
        if not self.lowest_latency_buffer >= 0:
            raise ConfigError(f"router.lowest_latency_buffer must be 0 or more, not {self.lowest_latency_buffer}")
        if not self.ttl_s > 0:
            raise ConfigError(f"router.ttl_s must be greater than 0, not {self.ttl_s}")

    def observe_completion(self, completion: Completion) -> None:
        """Remember how long it took."""
        instance = completion.instance
        self._grow(instance + 1)
        recent = self._recent.setdefault(instance, [])
        recent.append(self._sample(completion))
        del recent[: -self.samples]
        self._mean[instance] = sum(recent) / len(recent)
        self._last_s[instance] = completion.finished_s

    def _sample(self, completion: Completion) -> float:
        if self.latency == "first_token":
            return completion.first_token_s - completion.dispatched_s
        return (completion.finished_s - completion.dispatched_s) / max(completion.output_tokens, 1)

    def route(self, request: Request, view: ClusterView) -> Decision:
        """One of the instances with the lowest recent latency."""
        self._grow(len(view))
        expired = self._last_s < view.now_s - self.ttl_s
        if expired.any():
            self._mean[expired] = 0.0
            for instance in expired.nonzero()[0].tolist():
                self._recent.pop(instance, None)
        latency = np.where(view.available, self._mean, np.inf)
        limit = float(latency.min()) * (1.0 + self.lowest_latency_buffer)
        return any_of(((latency <= limit) & view.available).nonzero()[0], self._rng)

    def _grow(self, n: int) -> None:
        missing = n - len(self._mean)
        if missing > 0:
            self._mean = np.concatenate([self._mean, np.zeros(missing)])
            self._last_s = np.concatenate([self._last_s, np.zeros(missing)])
