"""Speculative decoding: a drafter proposes tokens, the model verifies them together in its next iteration.

As in vLLM (0.32, ``v1/core/sched/scheduler.py``, ``v1/sample/rejection_sampler.py``): whoever has got a token has
``num_speculative_tokens`` proposed for the next iteration, which computes them behind the last known token. The
proposals up to the first that is rejected are accepted, and the model's own token after them comes for nothing.
Prompts under way, and who was preempted, have nothing proposed. Left out: the blocks that vLLM keeps ready for the
drafter's own KV, and the drafter's weights and KV (give ``kv_blocks``, where they matter).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gsim.core.errors import ConfigError

_WHERE = "engine.speculation"
_EAGLE_SHARE: Final = 0.1
#: More are proposed by nobody, and each has its place in tables.
_MOST_TOKENS: Final = 1024
#: Where chances are given per task class: that of the others.
OTHER: Final = "other"


@dataclass(frozen=True)
class SpeculationConfig:
    """What is proposed, how much of it is accepted, and what proposing costs."""

    num_speculative_tokens: int = 0
    """Tokens proposed for a sequence in each iteration (k); 0: speculation is off."""
    acceptance: float | Mapping[str, float] | None = None
    """Chance that a proposed token is accepted, given that those before it were: one number, or one per task class
    with ``other`` for the rest (``{code_agent: 0.85, other: 0.6}``). None, or no ``other``: ``curve`` says it."""
    curve: tuple[float, ...] = ()
    """Measured instead: shares of all proposals whose first, second, ... token was accepted, never rising (vLLM's
    ``spec_decode_num_accepted_tokens_per_pos`` divided by ``spec_decode_num_drafts``); k of them or more."""
    draft_share: float = _EAGLE_SHARE
    """What a pass of the drafter takes, as a share of an iteration of the model over the same tokens. 0.1: weights that
    an EAGLE head reads beside Llama-3.1-8B (a layer of 32, the output head: 0.78 of 8.0 billion); 0: n-grams."""
    draft_s: float = 0.0
    """Seconds of a pass of the drafter beside its share, whatever the batch."""

    def __post_init__(self) -> None:
        k = self.num_speculative_tokens
        if not 0 <= k <= _MOST_TOKENS:
            raise ConfigError(f"{_WHERE}.num_speculative_tokens must be from 0 (off) to {_MOST_TOKENS}, not {k}")
        if k == 0:
            said = {"acceptance": self.acceptance is not None, "curve": bool(self.curve)}
            said |= {"draft_share": self.draft_share != _EAGLE_SHARE, "draft_s": self.draft_s != 0.0}
            refuse_idle(_WHERE, "num_speculative_tokens", said)
            return
        chances = self._by_task
        if (OTHER in chances) == bool(self.curve):
            given = "both" if self.curve else "neither"
            raise ConfigError(
                f"{_WHERE}: give acceptance (one chance, or one per task class and {OTHER}) or curve (measured shares) "
                f"for tasks without a chance of their own, not {given}"
            )
        for task, chance in chances.items():
            _check_share("acceptance" if task == OTHER else f"acceptance.{task}", chance)
        for share in self.curve:
            _check_share("curve", share)
        if self.curve and len(self.curve) < k:
            raise ConfigError(f"{_WHERE}.curve must have {k} shares or more (num_speculative_tokens), not {self.curve}")
        if any(later > earlier for earlier, later in zip(self.curve, self.curve[1:])):
            raise ConfigError(f"{_WHERE}.curve must never rise: a token counts only if those before it were accepted")
        for name in ("draft_share", "draft_s"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{_WHERE}.{name} must be a finite number, 0 or more, not {getattr(self, name)}")

    @property
    def on(self) -> bool:
        """Whether anything is proposed."""
        return self.num_speculative_tokens > 0

    @property
    def _by_task(self) -> Mapping[str, float]:
        """The chances of task classes, and of the others."""
        if self.acceptance is None:
            return {}
        return self.acceptance if isinstance(self.acceptance, Mapping) else {OTHER: self.acceptance}

    def chances(self, task: str) -> tuple[float, ...]:
        """Per token proposed to a class of requests: the chance to be accepted, given that those before it were."""
        k = self.num_speculative_tokens
        chances = self._by_task
        constant = chances.get(task, chances.get(OTHER))
        if constant is not None:
            return (constant,) * k
        before = (1.0, *self.curve)
        return tuple(share / earlier if earlier else 0.0 for earlier, share in zip(before, self.curve[:k]))

    def tokens_per_iteration(self, task: str = "") -> float:
        """Expected tokens that an iteration yields to a decoding sequence: 1 + a1 + a1 a2 + ...

        With one chance a for all k tokens that is (1 - a^(k+1)) / (1 - a) (Leviathan et al., arXiv 2211.17192).
        """
        return 1.0 + sum(math.prod(self.chances(task)[:i]) for i in range(1, self.num_speculative_tokens + 1))


def refuse_idle(where: str, switch: str, said: Mapping[str, bool]) -> None:
    """Raise ``ConfigError`` for the first of the fields that say something while ``switch`` has all of them off."""
    for name, says in said.items():
        if says:
            raise ConfigError(f"{where}.{name} says nothing while {switch} is 0 (off); allowed: above 0")


def _check_share(name: str, share: object) -> None:
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 <= share <= 1.0:
        raise ConfigError(f"{_WHERE}.{name} must be a number in [0, 1], not {share!r}")
