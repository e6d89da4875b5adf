"""Traces that carry prompts as text: vLLM custom JSON lines, ShareGPT conversations, prompts with measured lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import ceil, isfinite

import numpy as np

from gsim.core import ConfigError, Content, register
from gsim.workload.formats.grouping import grouped, play_of
from gsim.workload.formats.history import continued
from gsim.workload.formats.json_values import json_values
from gsim.workload.formats.untimed import Untimed
from gsim.workload.play import NO_CLOCK, Play, Turn, Wait, segment
from gsim.workload.report import Report, RowError
from gsim.workload.rows import Row, brief, json_rows, parsed, present, text, whole


def check_text_options(characters_per_token: float, gap_s: float = 0.0) -> None:
    """``ConfigError`` unless the rule for lengths and the gap make sense."""
    if not (isfinite(characters_per_token) and characters_per_token > 0):
        raise ConfigError(f"trace.characters_per_token must be a positive number, not {characters_per_token}")
    if not (isfinite(gap_s) and gap_s >= 0):
        raise ConfigError(f"trace.gap_s must be 0 or more, not {gap_s}")


def counted(row: Row, names: tuple[str, ...], written: str, characters_per_token: float) -> int:
    """Tokens as the row counts them (the first of ``names`` that it has), else the text's characters over the rule."""
    for name in names:
        if row.get(name) is not None:
            return whole(row, name)
    if not written:
        raise RowError(f"no text, and no {' or '.join(names)}")
    return max(ceil(len(written) / characters_per_token), 1)


@register("trace", "vllm_custom")
@dataclass(frozen=True, kw_only=True)
class VllmCustom(Untimed):
    """vLLM custom JSON lines: ``prompt`` and ``output_tokens`` (what ``vllm bench serve`` reads)."""

    characters_per_token: float = 4.0
    """Length of a prompt whose row has no ``prompt_tokens`` (about 4 for English text)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text_options(self.characters_per_token)

    def plays(self, report: Report, rng: np.random.Generator) -> Iterator[Play]:
        """See ``Recorded``."""
        errors = self.errors(report)
        for _, play in parsed(json_rows(self.path, errors), errors, self._play):
            yield play

    def _play(self, line: int, row: Row) -> Play:
        prompt = present(row, "prompt")
        if not isinstance(prompt, str):
            raise RowError(f"prompt must be a text, not {brief(prompt)}")
        tokens = counted(row, ("prompt_tokens", "input_tokens"), prompt, self.characters_per_token)
        turn = Turn(tokens, whole(row, "output_tokens"), text=prompt)
        return Play(NO_CLOCK, (turn,), line)


@register("trace", "sharegpt")
@dataclass(frozen=True, kw_only=True)
class ShareGpt(Untimed):
    """ShareGPT conversations (JSON array or lines): each human message with its answer is a turn, closed loop."""

    characters_per_token: float = 4.0
    """Length of a message without ``tokens`` (about 4 for English text)."""
    max_output_tokens: int = 4096
    """What each client asks for at most. Longer outputs are cut to it."""
    gap_s: float = 10.0
    """Time between an answer and the next message (the file does not say)."""
    turns: int | None = None
    """Only the first turns of each conversation (1: as vLLM's and SGLang's samplers do)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text_options(self.characters_per_token, self.gap_s)
        if self.turns is not None and self.turns < 1:
            raise ConfigError(f"trace.turns must be at least 1, not {self.turns}")

    def plays(self, report: Report, rng: np.random.Generator) -> Iterator[Play]:
        """See ``Recorded``. Answers without a question before them are left out, as in most copies of the data."""
        errors = self.errors(report)
        for _, play in parsed(json_values(self.path, errors), errors, self._play):
            yield play

    def _play(self, item: int, row: Row) -> Play | None:
        messages = present(row, "conversations")
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise RowError(f"conversations must be a list of objects, not {brief(messages)}")
        scope = segment("sharegpt", item)
        turns: list[Turn] = []
        for question, answer in pairwise(messages):
            if text(question, "from") not in ("human", "user") or text(answer, "from") not in ("gpt", "assistant"):
                continue
            if len(turns) == self.turns:
                break
            turns.append(self._turn(question, answer, turns, scope))
        return Play(NO_CLOCK, tuple(turns), item) if turns else None

    def _turn(self, question: Row, answer: Row, turns: list[Turn], scope: int) -> Turn:
        here = len(turns)
        asked, answered = text(question, "value"), text(answer, "value")
        tokens = counted(question, ("tokens",), asked, self.characters_per_token)
        content: Content = ((segment(scope, here), tokens),)
        if turns:
            last = turns[-1]
            content = (*last.content, (last.output_segment, last.output_tokens), *content)
            tokens += last.prompt_tokens + last.output_tokens
        return Turn(
            tokens,
            counted(answer, ("tokens",), answered, self.characters_per_token),
            (Wait(here - 1, self.gap_s),) if turns else (),
            content,
            segment(scope, here, 1),
            "chat",
            asked,
        )


@register("trace", "prompt_lengths")
@dataclass(frozen=True, kw_only=True)
class PromptLengths(Untimed):
    """Prompts as text with measured lengths and task classes (JSON lines: task, session, prompt ...)."""

    gap_s: float = 0.5
    """Time between a turn's answer and the next turn (the file does not say)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text_options(1.0, self.gap_s)

    def plays(self, report: Report, rng: np.random.Generator) -> Iterator[Play]:
        """See ``Recorded``."""
        errors = self.errors(report)
        for name, rows in grouped(lambda own: json_rows(self.path, own), _runs, errors):
            turn_of = partial(self._turn, segment("prompt_lengths", name))
            play = play_of(rows, errors, turn_of, _no_clock)
            if play is not None:
                yield play

    def _turn(self, scope: int, row: Row, turns: list[Turn]) -> Turn:
        tokens, here = whole(row, "context_tokens"), len(turns)
        fresh = segment(scope, here)
        return Turn(
            tokens,
            whole(row, "output_tokens"),
            (Wait(here - 1, self.gap_s),) if turns else (),
            continued(turns[-1], tokens, fresh) if turns else ((fresh, tokens),),
            segment(scope, here, 1),
            text(row, "task"),
            text(row, "prompt"),
        )


def _runs() -> Callable[[Row], str]:
    """From a row to its session; where turns start again, so does another run of the session's task."""
    last: dict[str, tuple[int, int]] = {}

    def key(row: Row) -> str:
        name, turn = text(row, "session"), whole(row, "turn", low=0)
        run, before = last.get(name, (0, -1))
        run += turn <= before
        last[name] = run, turn
        return f"{name} run {run}"

    return key


def _no_clock(_row: Row) -> float:
    return NO_CLOCK
