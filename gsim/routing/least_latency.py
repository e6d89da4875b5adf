"""Smallest predicted latency of an average request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from gsim.core import ClusterView, Completion, ConfigError, Decision, Request, register
from gsim.core.view import Floats
from gsim.routing.choice import Drawing, lowest_at_random, nothing, scratch
from gsim.routing.latency import predicted_latency


@register("router", "least_latency")
@dataclass
class LeastLatency(Drawing):
    """argmin q_i + p_i * P + d_i * G, with P and G the fleet's mean prompt and output tokens; ties at random.

    The closest ancestor of GoodServe's T: the fleet's mean lengths instead of the request's own.

    State: learned estimates (S6) and mean lengths from completions. Source: AIBrix ``least-latency``. Simplified:
    upstream reads queue time and mean prefill and decode times from each engine's histograms (scraped); here they come
    from the estimator, which sees the same quantities from outside.
    """

    cold_prompt_tokens: float = 10.0
    """Mean prompt length before anything has finished (upstream: 10)."""
    cold_output_tokens: float = 100.0
    """Mean output length before anything has finished (upstream: 100)."""
    needs: ClassVar[frozenset[str]] = frozenset({"estimates"})
    _latency: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)
    _finished: int = field(default=0, init=False, repr=False, compare=False)
    _prompt_tokens: int = field(default=0, init=False, repr=False, compare=False)
    _output_tokens: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("cold_prompt_tokens", "cold_output_tokens"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"router.{name} must be greater than 0, not {getattr(self, name)}")

    def observe_completion(self, completion: Completion) -> None:
        """Count its lengths into the fleet's means."""
        self._finished += 1
        self._prompt_tokens += completion.request.prompt_tokens
        self._output_tokens += completion.output_tokens

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The instance that would finish an average request first."""
        prompt, output = self.cold_prompt_tokens, self.cold_output_tokens
        if self._finished:
            prompt, output = self._prompt_tokens / self._finished, self._output_tokens / self._finished
        self._latency = latency = scratch(self._latency, len(view))
        predicted_latency(view, prompt, output, latency)
        return lowest_at_random(latency, view.available, self._rng)
