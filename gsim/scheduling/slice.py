"""Rate-matched decode shares: every request decodes as often as its deadline needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from gsim.core import ConfigError, register
from gsim.core.scheduling import EngineCard, EngineRequest, EngineView, Plan
from gsim.scheduling.lengths import at_quantile


@register("scheduler", "slice")
@dataclass
class Slice:
    """Rate-matched decode shares: in an iteration decode only those whose deadline needs a token by now.

    A request needs rate v = remaining tokens / (deadline - now), its length the ``quantile`` of its distribution. In a
    cycle of ``cycle_s`` it has to decode v x cycle_s times; the batch of the j-th iteration are those with v x cycle_s
    >= j, so a cycle takes the sum over j of the time of a decode of so many. Requests are taken by ascending v (utility
    1 / v each: most requests per second of card) while the cycle fits into ``cycle_s``. Who is taken has a credit that
    grows by v per second and pays for one token per iteration; without credit it pauses. Who is not taken, or has no
    deadline, runs only when nobody has credit. Where a batch of all gives everybody its rate, nobody pauses.

    State: the credits. Starvation: a request that needs more than is left of the cycle waits until others end; late
    ones need no rate that helps, and run when nobody else must. Source: SLICE (Zhou et al., arXiv 2510.18544).
    Simplified: the rate follows from the end-to-end deadline and the predicted length instead of a TPOT objective, so
    it is as good as that prediction; utilities are equal; the card's times are those of the reference context.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"prediction", "quantiles"})
    every_iterations: ClassVar[int] = 1

    cycle_s: float = 1.0
    """Length of a cycle, in seconds."""
    quantile: float = 0.9
    """Of the distribution of the length: who paces by the mean is late as often as it is too short."""
    headroom: float = 1.1
    """A request's rate is planned so many times as high as its deadline needs."""
    always: bool = False
    """Pause also where a batch of all would give everybody its rate (as SLICE does)."""
    _credit: dict[int, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    _last_s: float = field(default=0.0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise ConfigError(f"scheduler.quantile must be between 0 and 1, not {self.quantile}")
        if not 0 < self.cycle_s < float("inf"):
            raise ConfigError(f"scheduler.cycle_s must be greater than 0, not {self.cycle_s}")
        if not 1 <= self.headroom < float("inf"):
            raise ConfigError(f"scheduler.headroom must be 1 or more, not {self.headroom}")

    def queue_key(self, request: EngineRequest, card: EngineCard) -> float:
        """Least laxity first: a first token cannot be shared out."""
        return card.laxity_s(request)

    def plan(self, view: EngineView) -> Plan:
        """Who pauses."""
        span_s = min(max(view.now_s - self._last_s, 0.0), self.cycle_s)
        self._last_s = view.now_s
        decoding = [request for request in view.running if request.generated_tokens > 0]
        rates = self._taken(decoding, view)
        if not self.always and self._all_at_once(rates, view):
            self._credit = {}
            return Plan()
        credit: dict[int, float] = {}
        for request in decoding:
            request_id = request.request_id
            if request_id in rates:
                credit[request_id] = min(self._credit.get(request_id, 1.0) + rates[request_id] * span_s, 2.0)
        runs = {request_id for request_id, tokens in credit.items() if tokens >= 1.0}
        prefilling = len(decoding) < len(view.running) or bool(view.waiting)
        if not runs and not prefilling:
            # Nobody must: everybody may.
            runs = {request.request_id for request in decoding}
        for request_id in runs & credit.keys():
            credit[request_id] = max(credit[request_id] - 1.0, 0.0)
        self._credit = credit
        return Plan(pause=tuple(r.request_id for r in decoding if r.request_id not in runs))

    def _all_at_once(self, rates: dict[int, float], view: EngineView) -> bool:
        """A batch of all who run gives everybody who was taken its rate."""
        batch = max(1, min(len(view.running), view.card.max_num_seqs))
        return max(rates.values(), default=0.0) * view.card.decode_s[batch - 1] <= 1.0

    def _taken(self, decoding: list[EngineRequest], view: EngineView) -> dict[int, float]:
        """The rate of every request that fits into the cycle, in tokens per second."""
        needed = []
        for request in decoding:
            left_s = request.deadline_s - view.now_s
            rest = at_quantile(request.lengths(), self.quantile) - request.generated_tokens
            rate = rest / left_s if left_s > 0 else float("inf")
            if 0.0 < rate < float("inf"):
                needed.append((self.headroom * rate, request.request_id))
        needed.sort()
        rates: dict[int, float] = {}
        times = view.card.decode_s
        spent_s, height = 0.0, 0
        # By ascending rate: one more request adds a row to the first columns, whose batches grow by one.
        columns: list[int] = []
        for rate, request_id in needed:
            tokens = max(1, round(rate * self.cycle_s))
            more_s = sum(times[min(batch, len(times) - 1)] - times[batch - 1] for batch in columns[:tokens])
            more_s += max(0, tokens - height) * times[0]
            if spent_s + more_s > self.cycle_s:
                break
            spent_s += more_s
            columns = [batch + 1 for batch in columns] + [1] * max(0, tokens - height)
            height = max(height, tokens)
            rates[request_id] = rate
        return rates
