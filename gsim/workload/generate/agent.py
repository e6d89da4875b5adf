"""One session of a task class: turns whose prompts hold what came before, with sub-agents where asked for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np

from gsim.core import Content, Streams
from gsim.workload.generate.task_class import TaskClass
from gsim.workload.lengths import Draws
from gsim.workload.play import Turn, Wait, segment


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
        self._max_context = max_context
        self._sub = sub
        self._fresh = fresh
        self._first = Draws(task.first_tokens, streams.stream(f"lengths.{name}.first"))
        self._append = Draws(task.append_tokens, streams.stream(f"lengths.{name}.append"))
        self._output = Draws(task.output_tokens, streams.stream(f"lengths.{name}.output"))
        self._turns = Draws(task.turns, streams.stream(f"lengths.{name}.turns"))
        self._gap = Draws(task.gap_s, streams.stream(f"gaps.{name}"))
        self._rng = streams.stream(f"lengths.{name}.structure")
        self._groups = _group_tokens(task)
        self._shared = segment("shared", name)

    def session(self) -> tuple[Turn, ...]:
        """The turns of one session; it ends early where the next turn would exceed the context. Maybe none fits."""
        outputs = self._outputs()
        turns: list[Turn] = []
        content = self._opening()
        last: list[Wait] = []
        for i, output in enumerate(outputs):
            turn = self._turn(content, output, tuple(last))
            if turn is None:
                break
            here = len(turns)
            turns.append(turn)
            last = [Wait(here, self._gap.next())]
            if i + 1 < len(outputs) and self._sub.probability and self._rng.random() < self._sub.probability:
                last = self._spawn(turns, here) or last
            appended = self._append.tokens()
            content = (*turn.content, (turn.output_segment, output), (next(self._fresh), appended))
        return tuple(turns)

    def _outputs(self) -> list[int]:
        cap = self.task.max_output_tokens
        if self.task.output_split:
            total = self._output.next()
            return [min(max(round(total * share), 1), cap) for share in self.task.output_split]
        return [min(self._output.tokens(), cap) for _ in range(self._turns.tokens())]

    def _opening(self) -> Content:
        task = self.task
        if task.groups:
            group = int(self._rng.integers(task.groups))
            common = max(round(task.group_share * self._groups[group]), 1)
            own = max(round((self._groups[group] - common) * self._rng.uniform(0.5, 1.5)), 1)
            return ((segment("group", self.name, group), common), (next(self._fresh), own))
        tokens = self._first.tokens()
        own = max(tokens - task.shared_tokens, 1)
        if tokens > own:
            return ((self._shared, tokens - own), (next(self._fresh), own))
        return ((next(self._fresh), tokens),)

    def _turn(self, content: Content, output: int, after: tuple[Wait, ...]) -> Turn | None:
        tokens = sum([size for _, size in content])
        # The client asks for max_output_tokens, so this much room must be left, as a server checks.
        if tokens + self.task.max_output_tokens > self._max_context:
            return None
        return Turn(tokens, output, after, content, next(self._fresh), self.name)

    def _spawn(self, turns: list[Turn], parent: int) -> list[Wait]:
        """Sub-agents after the turn ``parent``; what the turn that joins them waits for."""
        ends = []
        for _ in range(self._sub.width):
            content = self._opening()
            after = (Wait(parent, 0.0),)
            for _ in range(self._sub.turns):
                output = min(self._output.tokens(), self.task.max_output_tokens)
                turn = self._turn(content, output, after)
                if turn is None:
                    break
                after = (Wait(len(turns), self._gap.next()),)
                turns.append(turn)
                content = (*turn.content, (turn.output_segment, output), (next(self._fresh), self._append.tokens()))
            if after[0].turn != parent:
                ends.append(Wait(after[0].turn, 0.0))
        return ends
