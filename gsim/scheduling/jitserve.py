"""Grouped margin goodput: most good requests per second of service, with lengths that are known imprecisely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from gsim.core import ConfigError, register
from gsim.core.scheduling import EngineCard, EngineRequest, EngineView, Plan
from gsim.scheduling.lengths import at_quantile


class _Rated(NamedTuple):
    density: float
    request: EngineRequest
    blocks: int
    """KV blocks that it holds, or wants to start with."""


@register("scheduler", "jitserve")
@dataclass
class JitServe:
    """Grouped margin goodput: what brings most goodput per second of service goes first, and pushes out the rest.

    density = min(1, SLO / predicted end-to-end latency) ^ ``penalty`` / seconds of service that are left. Seconds are
    those of the prefill and of the tokens still expected at the speed of the present batch; the length is the
    ``quantile`` of the forecast's distribution given what was generated: careful first, and relaxed as tokens appear.
    Every ``every_iterations`` the batch is chosen anew: of all requests within ``group`` of the density of the last one
    that fits, those of alike context (a window over the sorted prompts with the largest sum of densities). A waiting
    request of the batch that finds no room pushes out running ones with less than 1 / ``gain`` of its density.
    No state. Starvation: possible, bounded by nothing: who is late loses density with every second (``penalty`` 0: no).

    Source: JITServe (Zhang et al., arXiv 2504.20068, NSDI'26) and its released scheduler (UIUC-MLSys/JITServe,
    jitserve/scheduler/policy.py). Simplified: goodput counts requests as gsim does, not tokens; requests of one agent
    are not scheduled together; who is pushed out is computed again instead of swapped.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"prediction", "quantiles"})

    quantile: float = 0.75
    """Of the distribution of the length (JITServe: an upper bound from quantile regression)."""
    penalty: float = 2.0
    """How fast a request loses value that will be late."""
    group: float = 0.9
    """Share of the last density that fits, down to which requests are candidates (1: no grouping)."""
    gain: float = 3.0
    """How many times a running request's density a waiting one must have to push it out."""
    every_iterations: int = 20
    """Iterations between two choices of the batch."""

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise ConfigError(f"scheduler.quantile must be between 0 and 1, not {self.quantile}")
        if not 0 < self.group <= 1:
            raise ConfigError(f"scheduler.group must be in (0, 1], not {self.group}")
        if not self.penalty >= 0 or not self.gain >= 1 or self.every_iterations < 1:
            raise ConfigError("scheduler: penalty must be 0 or more, gain and every_iterations 1 or more")

    def queue_key(self, request: EngineRequest, card: EngineCard) -> float:
        """Until it is in a plan: the largest density first, as if the card were at its reference load."""
        return -self._density(request, request.submitted_s, card, card.tpot_s)

    def plan(self, view: EngineView) -> Plan:
        """The batch that brings most."""
        card = view.card
        size = max(1, len(view.running))
        tpot_s = card.decode_s[min(size, card.max_num_seqs) - 1]
        running = [self._rated(request, view.now_s, card, tpot_s) for request in view.running]
        waiting = [self._rated(request, view.now_s, card, tpot_s) for request in view.waiting]
        chosen = self._batch(running + waiting, card)
        order = [rated for rated in chosen if not _runs(rated.request)]
        return Plan(
            order=tuple(rated.request.request_id for rated in order),
            preempt=self._pushed_out(running, order, view),
        )

    def _density(self, request: EngineRequest, now_s: float, card: EngineCard, tpot_s: float) -> float:
        rest = at_quantile(request.lengths(), self.quantile) - request.generated_tokens
        service_s = max(request.prefill_tokens * card.prefill_s_per_token + rest * tpot_s, tpot_s)
        latency_s = now_s + service_s - request.arrival_s
        slo_s = request.deadline_s - request.arrival_s
        value: float = min(1.0, slo_s / latency_s) ** self.penalty
        return value / service_s

    def _rated(self, request: EngineRequest, now_s: float, card: EngineCard, tpot_s: float) -> _Rated:
        blocks = request.blocks or card.blocks_of(request.prompt_tokens + request.generated_tokens)
        return _Rated(self._density(request, now_s, card, tpot_s), request, blocks)

    def _batch(self, rated: Sequence[_Rated], card: EngineCard) -> list[_Rated]:
        """Who shall run, the largest density first."""
        best = sorted(rated, key=lambda one: (-one.density, one.request.request_id))
        fitting = _fitting(best, card)
        if fitting == len(best) or fitting == 0:
            return best
        least = self.group * best[fitting - 1].density
        candidates = [one for one in best if one.density >= least]
        alike = sorted(candidates, key=lambda one: (one.request.prompt_tokens, one.request.request_id))
        window = max(range(len(alike) - fitting + 1), key=lambda i: sum(one.density for one in alike[i : i + fitting]))
        grouped = {one.request.request_id for one in alike[window : window + fitting]}
        return sorted(best, key=lambda one: (one.request.request_id not in grouped, -one.density))

    def _pushed_out(self, running: Sequence[_Rated], order: Sequence[_Rated], view: EngineView) -> tuple[int, ...]:
        """Running requests, the least density first, that make room for waiting ones which bring ``gain`` times
        more."""
        free, slots = view.free_blocks, view.card.max_num_seqs - len(running)
        weakest = sorted(running, key=lambda one: (one.density, one.request.request_id))
        out: list[int] = []
        for one in order:
            while weakest and (one.blocks > free or slots < 1) and weakest[0].density * self.gain < one.density:
                gone = weakest.pop(0)
                out.append(gone.request.request_id)
                free += gone.blocks
                slots += 1
            if one.blocks > free or slots < 1:
                break
            free -= one.blocks
            slots -= 1
        return tuple(out)


def _runs(request: EngineRequest) -> bool:
    return request.blocks > 0


def _fitting(best: Sequence[_Rated], card: EngineCard) -> int:
    """How many of them, from the first on, fit on the card at once."""
    blocks = 0
    for i, one in enumerate(best[: card.max_num_seqs]):
        blocks += one.blocks
        if blocks > card.kv_blocks:
            return i
    return min(len(best), card.max_num_seqs)
