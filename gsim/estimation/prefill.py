"""How long an instance makes requests wait, and how fast it prefills: learned from times to first token."""

from __future__ import annotations

from dataclasses import dataclass, field

#: The prior of the prefill slope counts as this much variance of prompt length (tokens squared): prompts must differ
#: by more than about 64 tokens before the slope is believed over the nominal one.
_PRIOR_VARIANCE = 64.0**2


@dataclass(slots=True)
class PrefillModel:
    """One instance's TTFT = base + pace * tokens ahead + p * prompt tokens; all three forget exponentially.

    - ``prefill_s_per_token`` (p): slope of TTFT over prompt length of requests that found nobody ahead, by
      exponentially weighted regression, drawn to the nominal value where prompts are too alike to tell;
    - ``pace_s_per_token``: seconds per prompt token between consecutive first tokens while somebody was waiting: the
      speed at which a queue shrinks, whatever holds it up (token budget, KV blocks, batch slots);
    - ``base_s``: what is left: waiting for the running iteration, for a slot, for memory.
    """

    alpha: float
    nominal_s_per_token: float
    base_s: float = 0.0
    prefill_s_per_token: float = field(init=False)
    _service_s: float = field(init=False)
    _service_tokens: float = field(init=False)
    _last_first_token_s: float = -1.0
    _mean_tokens: float = 0.0
    _mean_s: float = 0.0
    _variance: float = 0.0
    _covariance: float = 0.0
    _regressed: bool = False

    def __post_init__(self) -> None:
        self.prefill_s_per_token = self.nominal_s_per_token
        self._service_tokens = 512.0
        self._service_s = 512.0 * self.nominal_s_per_token

    @property
    def pace_s_per_token(self) -> float:
        """Seconds per queued prompt token."""
        return self._service_s / self._service_tokens

    def learn(
        self, prompt_tokens: int, ahead_tokens: int | None, dispatched_s: float, now_s: float, counted_tokens: int
    ) -> None:
        """A first token arrived. ``ahead_tokens``: prompt tokens that were waiting when it was sent (None: unknown);
        ``counted_tokens``: its own, as p is to count them (the whole prompt, or what was computed of it)."""
        alpha = self.alpha
        ttft_s = now_s - dispatched_s
        if ahead_tokens == 0:
            self._regress(counted_tokens, ttft_s)
        elif ahead_tokens is not None:
            since_s = now_s - max(dispatched_s, self._last_first_token_s)
            self._service_s += alpha * (since_s - self._service_s)
            self._service_tokens += alpha * (prompt_tokens - self._service_tokens)
        self._last_first_token_s = now_s
        explained_s = self.prefill_s_per_token * counted_tokens + self.pace_s_per_token * (ahead_tokens or 0)
        self.base_s += alpha * (max(ttft_s - explained_s, 0.0) - self.base_s)

    def _regress(self, tokens: int, ttft_s: float) -> None:
        if not self._regressed:
            self._mean_tokens, self._mean_s, self._regressed = float(tokens), ttft_s, True
            return
        alpha = self.alpha
        off_tokens = tokens - self._mean_tokens
        off_s = ttft_s - self._mean_s
        self._mean_tokens += alpha * off_tokens
        self._mean_s += alpha * off_s
        self._variance = (1.0 - alpha) * (self._variance + alpha * off_tokens * off_tokens)
        self._covariance = (1.0 - alpha) * (self._covariance + alpha * off_tokens * off_s)
        slope = (self._covariance + _PRIOR_VARIANCE * self.nominal_s_per_token) / (self._variance + _PRIOR_VARIANCE)
        self.prefill_s_per_token = max(slope, 0.01 * self.nominal_s_per_token)
