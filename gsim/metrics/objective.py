"""``--goodput``-style objectives: besides its deadline, what a request must keep to count as good.

The notation is that of ``vllm bench serve --goodput``: ``ttft:MS tpot:MS e2el:MS``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsim.core import ConfigError, Status
from gsim.core.numbers import number_of


@dataclass(frozen=True)
class Objective:
    """Limits in milliseconds that hold for every request, on top of its own ``slo_s`` (``inf``: no limit)."""

    ttft_ms: float = math.inf
    tpot_ms: float = math.inf
    e2el_ms: float = math.inf
    truncated: bool = False
    """Whether an answer that the engine cut short (``truncated``) may be good: asked for by ``truncated:good``."""

    def __post_init__(self) -> None:
        for name in ("ttft", "tpot", "e2el"):
            value = getattr(self, f"{name}_ms")
            if not value > 0:
                raise ConfigError(f"goodput {name}:{value} must be greater than 0 (milliseconds)")

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read ``"ttft:500 e2el:6000"`` (empty: no limit); raises ``ConfigError`` naming the word it cannot read."""
        limits: dict[str, Any] = {}
        for word in text.replace(",", " ").split():
            key, _, value = word.partition(":")
            if word == "truncated:good":
                limits["truncated"] = True
                continue
            if key not in ("ttft", "tpot", "e2el"):
                allowed = "allowed: ttft, tpot, e2el (milliseconds), truncated:good"
                raise ConfigError(f"goodput '{word}': unknown metric '{key}'; {allowed}")
            if f"{key}_ms" in limits:
                raise ConfigError(f"goodput '{text}': {key} has two limits; give the one that is meant")
            try:
                limits[f"{key}_ms"] = number_of(value)
            except ValueError:
                raise ConfigError(f"goodput '{word}': '{value}' is not a number of milliseconds") from None
        return cls(**limits)

    def parts(self, requests: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Which requests kept each of the limits by itself (``ttft``, ``tpot``, ``e2el``); empty where it is all one.

        A first token counts whatever became of the request; ``tpot`` and ``e2el`` ask that it finished.
        """
        if self.ttft_ms == math.inf and self.tpot_ms == math.inf:
            return {}
        alone = {"e2el": Objective(e2el_ms=self.e2el_ms, truncated=self.truncated).met(requests)}
        if self.ttft_ms < math.inf:
            alone["ttft"] = (requests["first_token_s"] - requests["arrival_s"]) * 1e3 <= self.ttft_ms
        if self.tpot_ms < math.inf:
            free = {**requests, "slo_s": np.full(len(requests["slo_s"]), math.inf)}
            alone["tpot"] = Objective(tpot_ms=self.tpot_ms, truncated=self.truncated).met(free)
        return alone

    def met(self, requests: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """Which requests finished, whole, inside their own deadline and all limits (booleans, one per row)."""
        e2e = requests["finished_s"] - requests["arrival_s"]
        good = (requests["status"] == Status.FINISHED) & (e2e <= requests["slo_s"]) & (e2e * 1e3 <= self.e2el_ms)
        if not self.truncated:
            good &= ~truncated(requests)
        if self.ttft_ms < math.inf:
            good &= (requests["first_token_s"] - requests["arrival_s"]) * 1e3 <= self.ttft_ms
        if self.tpot_ms < math.inf:
            tokens = requests["generated_tokens"]
            decode = requests["finished_s"] - requests["first_token_s"]
            good &= (tokens <= 1) | (decode * 1e3 <= self.tpot_ms * np.maximum(tokens - 1, 1))
        return np.asarray(good)


def truncated(requests: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Which finished requests have fewer tokens than their answer: the engine's limits cut it (booleans, one per row).

    What vLLM does at ``max_model_len`` (``finish_reason: length``), and where the KV cache holds no longer sequence.
    Records that do not say how long the answer is (a live server's have no ``output_tokens``) tell of none.
    """
    finished = requests["status"] == Status.FINISHED
    if "output_tokens" not in requests:
        return np.zeros(len(finished), dtype=np.bool_)
    return np.asarray(finished & (requests["generated_tokens"] < requests["output_tokens"]))
