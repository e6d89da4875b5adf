"""The lowest frequency at which everybody is still in time, and a batch that memory can carry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from gsim.core import ConfigError, register
from gsim.core.scheduling import EngineCard, EngineRequest, EngineView, Plan


@register("scheduler", "power_cap")
@dataclass
class PowerCap:
    """The lowest frequency at which all are in time; full speed, and fewer requests at once, where memory is short.

    At frequency f (a share of the card's highest) an iteration takes ``compute_share`` / f + (1 - ``compute_share``)
    of its time, and the card draws f ^ ``exponent`` of what it draws above idle. Every ``every_iterations`` the lowest
    of ``frequencies`` is taken at which no request becomes late that would be in time at full speed: now + ``margin``
    x work left <= deadline. While less than ``headroom`` of the KV blocks is free the card runs at full speed: slower,
    it would hold more requests at once and thrash. A preemption since the last plan takes a tenth off the number of
    requests that may run, a plan without one and with headroom adds one (additive increase, multiplicative decrease).

    The queue is first come, first served. State: the cap. Starvation: none, but who comes waits for the cap. Source:
    KAIROS (Yuan et al., arXiv 2604.16682): context-aware frequency and concurrency; its placement of agents is a
    router's matter and left out. Simplified: its models of power and time are fitted to a card; here two numbers stand
    for them, which are assumptions (a memory-bound decode hardly slows; dynamic power falls faster than frequency).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"prediction"})

    frequencies: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    """Shares of the highest frequency that the card can run at."""
    compute_share: float = 0.4
    """Share of an iteration that lasts longer at a lower frequency (the rest waits for memory)."""
    exponent: float = 2.5
    """How power above idle falls with frequency."""
    margin: float = 1.3
    """Work is taken to last so many times as long as it looks now."""
    headroom: float = 0.1
    """Share of the KV blocks that must be free to run slower."""
    every_iterations: int = 10
    """Iterations between two plans."""
    _cap: int = field(default=0, init=False, repr=False, compare=False)
    _preempted: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.frequencies or not all(0 < f <= 1 for f in self.frequencies) or max(self.frequencies) < 1:
            raise ConfigError(f"scheduler.frequencies must be shares in (0, 1] up to 1, not {self.frequencies}")
        for name, low, high in (("compute_share", 0, 1), ("headroom", 0, 1), ("exponent", 0, 10), ("margin", 0, 100)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"scheduler.{name} must be in [{low}, {high}], not {getattr(self, name)}")
        if self.every_iterations < 1:
            raise ConfigError(f"scheduler.every_iterations must be 1 or more, not {self.every_iterations}")

    def queue_key(self, request: EngineRequest, card: EngineCard) -> float:
        """All alike: the order of submission decides."""
        return 0.0

    def plan(self, view: EngineView) -> Plan:
        """Frequency and the most requests at once."""
        card = view.card
        roomy = view.free_blocks > self.headroom * card.kv_blocks
        self._cap = self._next_cap(view, roomy)
        frequency = self._lowest(view) if roomy else 1.0
        return Plan(max_running=self._cap, speed=1.0 / self._slowdown(frequency), power=frequency**self.exponent)

    def _next_cap(self, view: EngineView, roomy: bool) -> int:
        preempted = sum(request.preemptions for request in (*view.running, *view.waiting))
        grown, self._preempted = preempted > self._preempted, preempted
        cap = self._cap or view.card.max_num_seqs
        if grown:
            return max(1, min(cap, len(view.running)) * 9 // 10)
        return min(cap + 1, view.card.max_num_seqs) if roomy else cap

    def _slowdown(self, frequency: float) -> float:
        return self.compute_share / frequency + (1.0 - self.compute_share)

    def _lowest(self, view: EngineView) -> float:
        card = view.card
        tpot_s = card.decode_s[min(max(1, len(view.running)), card.max_num_seqs) - 1]
        left = [
            (request.deadline_s - view.now_s, self.margin * self._work_s(request, card, tpot_s))
            for request in (*view.running, *view.waiting)
        ]
        # Who is late even at full speed is no reason to hurry.
        bounds = [left_s / work_s for left_s, work_s in left if left_s >= work_s > 0.0]
        allowed = min(bounds, default=float("inf"))
        return next((f for f in sorted(self.frequencies) if self._slowdown(f) <= allowed), 1.0)

    def _work_s(self, request: EngineRequest, card: EngineCard, tpot_s: float) -> float:
        return request.prefill_tokens * card.prefill_s_per_token + request.remaining_tokens * tpot_s
