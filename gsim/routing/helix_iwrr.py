"""Interleaved weighted round robin under a KV high-water mark."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gsim.core import ClusterView, Completion, ConfigError, Decision, Request, Verdict, register
from gsim.core.view import Floats
from gsim.routing.choice import lowest
from gsim.routing.ledger import Ledger


@register("router", "helix_iwrr")
@dataclass
class HelixIwrr:
    """argmin load_i + 1 / thr_i, then load_i += 1 / thr_i, over instances whose expected KV stays below a mark.

    load_i is the weighted number of requests sent so far: each instance gets its share of the pool's nominal
    throughput, spread evenly in time. Expected KV: prompt plus mean output of the requests that the router has active
    there, and of this one. Where none has room, the request is held. Ties: the lowest index.

    State: nominal throughput (S5), the router's own count of tokens (S1). Source: Helix ``global_maxflow``. Simplified:
    Helix solves a maximum flow over GPUs that each hold some layers; with whole models per instance the flow through an
    instance is its throughput.
    """

    high_water: float = 0.9
    """Share of the KV cache that may be expected to be in use."""
    cold_output_tokens: float = 256.0
    """Mean output length before anything has finished."""
    _held: Ledger = field(default_factory=Ledger, init=False, repr=False, compare=False)
    """Prompt plus mean output tokens of the active requests."""
    _load: Floats = field(default_factory=lambda: np.zeros(0), init=False, repr=False, compare=False)
    _finished: int = field(default=0, init=False, repr=False, compare=False)
    _output_tokens: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.high_water <= 1:
            raise ConfigError(f"router.high_water must be in (0, 1], not {self.high_water}")
        if not self.cold_output_tokens > 0:
            raise ConfigError(f"router.cold_output_tokens must be greater than 0, not {self.cold_output_tokens}")

    def placed(self, request: Request, instance: int) -> None:
        """A request was sent: it will hold KV there."""
        self._held.add(request.request_id, instance, request.prompt_tokens + self._mean_output())

    def observe_completion(self, completion: Completion) -> None:
        """It is over: its KV is free, its length counts into the mean."""
        self._held.remove(completion.request.request_id)
        self._finished += 1
        self._output_tokens += completion.output_tokens

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The instance whose turn it is."""
        self._held.heal(view)
        if len(self._load) != len(view):
            self._load = np.zeros(len(view))
        expected = self._held.amount + (request.prompt_tokens + self._mean_output())
        room = expected <= self.high_water * view.static.kv_capacity_tokens
        room |= view.in_flight == 0
        room &= view.available
        step = 1.0 / view.static.nominal_tokens_per_s
        chosen = lowest(self._load + step, room)
        if not isinstance(chosen, Verdict):
            self._load[chosen] += step[chosen]
        return chosen

    def _mean_output(self) -> float:
        return self._output_tokens / self._finished if self._finished else self.cold_output_tokens
