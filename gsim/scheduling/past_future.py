"""Admission by the future peak of KV memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from gsim.core import ConfigError, register
from gsim.core.scheduling import QUANTILES, EngineCard, EngineRequest, EngineView
from gsim.scheduling.lengths import LengthHistory

#: A prime to the number of quantiles: neighbours in age get unlike lengths.
_STRIDE = 7


@register("scheduler", "past_future")
@dataclass
class PastFuture:
    """First come, first served, admitted only if the requests' KV will fit at its future peak.

    With n requests sorted by remaining length r_1 >= ... >= r_n and h_j tokens of KV now, the most memory is held when
    one of them ends: peak = max_i (h_1 + ... + h_i + i r_i). The head of the queue starts if the peak with it is within
    (1 - ``reserve``) of the KV blocks. Lengths are those of the forecast's distribution beyond what was generated, else
    of the last ``window`` requests that finished here (state), else the forecast's mean.

    Starvation: none, the order is that of arrival. Source: Gong et al., ASPLOS'25, "Past-Future Scheduler for LLM
    Serving under SLA Guarantees" (LightLLM). Simplified: there, a length is drawn at random for every request and
    iteration; here ten scenarios are dealt out, in the k-th of which request i has its length number (7 i + k) mod 10,
    and up to ``risk`` of them may exceed the memory.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"prediction", "quantiles"})

    reserve: float = 0.05
    """Share of the KV blocks that the peak leaves free."""
    risk: float = 0.1
    """Share of the scenarios in which the peak may exceed the memory."""
    window: int = 1000
    """Lengths of finished requests that are remembered."""
    _history: LengthHistory = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("reserve", "risk"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"scheduler.{name} must be in [0, 1), not {getattr(self, name)}")
        if self.window < 1:
            raise ConfigError(f"scheduler.window must be 1 or more, not {self.window}")
        self._history = LengthHistory(self.window)

    def queue_key(self, request: EngineRequest, card: EngineCard) -> float:
        """All alike: the order of submission decides."""
        return 0.0

    def admits(self, request: EngineRequest, view: EngineView) -> bool:
        """Whether the peak with the request fits in enough scenarios."""
        card = view.card
        there = [*view.running, request]
        held = [card.block_size * card.blocks_of(r.prompt_tokens + r.generated_tokens) for r in there]
        rests = [[length - r.generated_tokens for length in self._history.lengths(r)] for r in there]
        room = (1.0 - self.reserve) * card.kv_blocks * card.block_size
        if sum(held) + sum(rest[-1] for rest in rests) <= room:
            # Even if all become as long as they can, and all at once.
            return True
        allowed = int(self.risk * len(QUANTILES) + 1e-9)
        for k in range(len(QUANTILES)):
            dealt = [rest[(_STRIDE * r.request_id + k) % len(rest)] for r, rest in zip(there, rests, strict=True)]
            if peak_tokens(held, dealt) > room:
                allowed -= 1
                if allowed < 0:
                    return False
        return True

    def finished(self, request: EngineRequest) -> None:
        """Remember its length."""
        self._history.add(request.generated_tokens)


def peak_tokens(held: Sequence[int], rest: Sequence[float]) -> float:
    """The most KV that requests hold at once, in tokens: ``held`` now, ``rest`` to come of each."""
    peak = sum_held = 0.0
    for i, (more, now) in enumerate(sorted(zip(rest, held, strict=True), reverse=True), start=1):
        sum_held += now
        peak = max(peak, sum_held + i * more)
    return peak
