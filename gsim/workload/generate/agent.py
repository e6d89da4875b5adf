"""One session of a task class: turns whose prompts hold what came before, with sub-agents where asked for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np

from gsim.core import Content, Streams
from gsim.workload.generate.draws import Draws, TokenDraws
from gsim.workload.generate.task_class import TaskClass
from gsim.workload.play import Turn, Wait, segment

#: No limit on a draw: more tokens than any context holds.
_MANY = 1 << 40


@dataclass(frozen=True)
class SubAgents:
    """Turns that call sub-agents: they start when the turn has ended, and the next turn waits for all of them."""

    probability: float = 0.0
    """Share of an agent's turns (but the last) that call some."""
    width: int = 2
    """How many at once."""
    turns: int = 3
    """Turns of each. It starts with the class's shared prompt and a task of its own."""


def _group_tokens(task: TaskClass) -> list[int]:
    """The mean length of the first prompts of each group: spread evenly over the class's distribution."""
    if not task.groups:
        return []
    places = (np.arange(task.groups) + 0.5) / task.groups
    drawn = task.first_tokens.sample(np.random.default_rng(0), 20_000)
    return [max(round(tokens), 1) for tokens in np.quantile(drawn, places).tolist()]


class Agents:
    """Draws sessions of one task class, from streams of its own name: another class moves none of its numbers."""

    def __init__(
        self, name: str, task: TaskClass, streams: Streams, fresh: count[int], max_context: int, sub: SubAgents
    ) -> None:
        self.name = name
        self.task = task
        self._most = max_context - task.max_output_tokens
        self._sub = sub
        self._fresh = fresh
        self._first = TokenDraws(task.first_tokens, streams.stream(f"lengths.{name}.first"), _MANY)
        self._append = TokenDraws(task.append_tokens, streams.stream(f"lengths.{name}.append"), _MANY)
        self._turns = TokenDraws(task.turns, streams.stream(f"lengths.{name}.turns"), _MANY)
        self._gap = Draws(task.gap_s, streams.stream(f"gaps.{name}"))
        # One of the two is used: the outputs of turns, or (where each turn has a share of it) those of sessions.
        outputs = streams.stream(f"lengths.{name}.output")
        self._split = task.output_split
        self._output = TokenDraws(task.output_tokens, outputs, task.max_output_tokens)
        self._total = Draws(task.output_tokens, outputs)
        self._rng = streams.stream(f"lengths.{name}.structure")
        self._groups = _group_tokens(task)
        self._shared = segment("shared", name)

    def session(self) -> tuple[Turn, ...]:
        """The turns of one session; it ends early where the next turn would exceed the context. Maybe none fits."""
        outputs = self._outputs()
        fresh, append, gap, name, most = self._fresh, self._append, self._gap, self.name, self._most
        calls = self._sub.probability
        turns: list[Turn] = []
        content, tokens = self._opening()
        after: tuple[Wait, ...] = ()
        for i, output in enumerate(outputs):
            # The client asks for max_output_tokens, so this much room must be left, as a server checks.
            if tokens > most:
                break
            segment_id = next(fresh)
            here = len(turns)
            turns.append(Turn(tokens, output, after, content, segment_id, name))
            after = (Wait(here, gap.next()),)
            if i + 1 < len(outputs) and calls and self._rng.random() < calls:
                after = self._spawn(turns, here) or after
            appended = append.next()
            content = (*content, (segment_id, output), (next(fresh), appended))
            tokens += output + appended
        return tuple(turns)

    def _outputs(self) -> list[int]:
        if self._split:
            total = self._total.next()
            return [self._cut(total * share) for share in self._split]
        return [self._output.next() for _ in range(self._turns.next())]

    def _cut(self, output: float) -> int:
        return min(max(round(output), 1), self.task.max_output_tokens)

    def _opening(self) -> tuple[Content, int]:
        """The first prompt of an agent, and its length."""
        task = self.task
        if self._groups:
            group = int(self._rng.integers(task.groups))
            common = max(round(task.group_share * self._groups[group]), 1)
            own = max(round((self._groups[group] - common) * self._rng.uniform(0.5, 1.5)), 1)
            return ((segment("group", self.name, group), common), (next(self._fresh), own)), common + own
        tokens = self._first.next()
        own = max(tokens - task.shared_tokens, 1)
        if tokens > own:
            return ((self._shared, tokens - own), (next(self._fresh), own)), tokens
        return ((next(self._fresh), tokens),), tokens

    def _spawn(self, turns: list[Turn], parent: int) -> tuple[Wait, ...]:
        """Sub-agents after the turn ``parent``; what the turn that joins them waits for."""
        ends: list[Wait] = []
        for _ in range(self._sub.width):
            content, tokens = self._opening()
            before = -1
            after = (Wait(parent, 0.0),)
            for _ in range(self._sub.turns):
                output = self._cut(self._total.next()) if self._split else self._output.next()
                if tokens > self._most:
                    break
                segment_id = next(self._fresh)
                before = len(turns)
                turns.append(Turn(tokens, output, after, content, segment_id, self.name))
                after = (Wait(before, self._gap.next()),)
                appended_to = next(self._fresh)
                appended = self._append.next()
                content = (*content, (segment_id, output), (appended_to, appended))
                tokens += output + appended
            if before >= 0:
                ends.append(Wait(before, 0.0))
        return tuple(ends)
