"""Mooncake JSON lines: lengths and prefix-chained block ids of requests or of the turns of sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf

import numpy as np

from gsim.core import ConfigError, register
from gsim.core.request import Content
from gsim.workload.clock import check_equal_times, ordered
from gsim.workload.play import NO_CLOCK, SEGMENT_MASK, Play, Turn, Wait, length, segment
from gsim.workload.recorded import Recorded
from gsim.workload.report import Report, RowError, RowErrors
from gsim.workload.rows import MAX_SECONDS, Row, json_rows, number, parsed, text, whole, wholes

VARIANTS = ("auto", "request", "session", "delta")


@register("trace", "mooncake")
@dataclass(frozen=True, kw_only=True)
class Mooncake(Recorded):
    """Mooncake JSON lines (FAST'25 release, aiperf sessions, dynamo delta): lengths and prefix block ids."""

    variant: str = "auto"
    """``request``: single requests. ``session``: rows with ``session_id`` and ``delay`` (ms after the previous turn)
    are turns. ``delta``: the same, but lengths and blocks are what the turn adds. ``auto``: request or session."""
    block_size: int = 512
    """Tokens per block id."""
    equal_times: str = "spread"
    """``refuse``, ``allow`` or ``spread`` requests of the same time: the released files count time in steps of 3 s."""
    window_s: float = 3.0
    """spread: over how long."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_equal_times(self.equal_times, self.window_s)
        if self.variant not in VARIANTS:
            raise ConfigError(f"trace.variant must be one of {', '.join(VARIANTS)}; not '{self.variant}'")
        if self.block_size < 1:
            raise ConfigError(f"trace.block_size must be at least 1, not {self.block_size}")

    def plays(self, report: Report, rng: np.random.Generator) -> Iterator[Play]:
        """See ``Recorded``."""
        errors = self.errors(report)
        rows = json_rows(self.path, errors)
        first = next(rows, None)
        if first is None:
            return
        rows = chain([first], rows)
        variant = self.variant
        if variant == "auto":
            variant = "session" if "session_id" in first[1] else "request"
        if variant == "request":
            made: Iterator[Play] = (play for _, play in parsed(rows, errors, self._play))
        else:
            made = self._sessions(rows, errors, delta=variant == "delta")
        yield from ordered(made, errors, self.equal_times, self.window_s, rng)

    def _play(self, line: int, row: Row) -> Play:
        arrival_s = number(row, "timestamp", high=MAX_SECONDS * 1e3) / 1e3
        prompt_tokens = whole(row, "input_length")
        turn = Turn(
            prompt_tokens,
            whole(row, "output_length"),
            content=blocks(row, prompt_tokens, self.block_size),
            task=task_of(row),
            slo_s=slo_of(row, "slo_ms"),
        )
        return Play(arrival_s, (turn,), line)

    def _sessions(self, rows: Iterator[tuple[int, Row]], errors: RowErrors, *, delta: bool) -> Iterator[Play]:
        """Sessions in the order of their first rows. Its rows may lie anywhere, so all are kept until then."""
        plays: dict[str, Play] = {}

        def turn_of(line: int, row: Row) -> bool:
            name = text(row, "session_id")
            before = plays.get(name)
            turn = self._turn(row, before, segment("mooncake", name), delta=delta)
            if before is None:
                arrival_s = NO_CLOCK
                if "timestamp" in row:
                    arrival_s = number(row, "timestamp", high=MAX_SECONDS * 1e3) / 1e3
                plays[name] = Play(arrival_s, (turn,), line, slo_of(row, "session_slo_ms"))
            else:
                plays[name] = before._replace(turns=(*before.turns, turn))
            return True

        for _ in parsed(rows, errors, turn_of):
            pass
        yield from plays.values()

    def _turn(self, row: Row, before: Play | None, scope: int, *, delta: bool) -> Turn:
        tokens = whole(row, "input_length")
        own = blocks(row, tokens, self.block_size)
        after: tuple[Wait, ...] = ()
        index = 0
        history: Content = ()
        if before is not None:
            index = len(before.turns)
            last = before.turns[-1]
            after = (Wait(index - 1, number(row, "delay", high=MAX_SECONDS * 1e3) / 1e3),)
            history = (*last.content, (last.output_segment, last.output_tokens))
        fresh = segment(scope, index)
        if delta:
            content = (*history, *(own or ((fresh, tokens),)))
        else:
            content = own or continued(history, tokens, fresh)
        return Turn(
            length(content),
            whole(row, "output_length"),
            after,
            content,
            segment(scope, index, 1),
            task_of(row),
            slo_s=slo_of(row, "slo_ms"),
        )


def blocks(row: Row, tokens: int, block_size: int) -> Content:
    """The prompt as blocks of the row's ``hash_ids`` (empty: it names none); the last may be partly filled."""
    if row.get("hash_ids") is None:
        return ()
    ids = wholes(row, "hash_ids")
    if len(ids) != -(-tokens // block_size):
        raise RowError(
            f"hash_ids must name {-(-tokens // block_size)} blocks of {block_size} tokens for {tokens} tokens, "
            f"not {len(ids)} (trace.block_size)"
        )
    return block_content(ids, tokens, block_size)


def block_content(ids: Sequence[int], tokens: int, block_size: int) -> Content:
    """``tokens`` tokens in blocks of those ids; the last may be partly filled."""
    whole_blocks = [(block & SEGMENT_MASK, block_size) for block in ids[:-1]]
    return (*whole_blocks, (ids[-1] & SEGMENT_MASK, tokens - block_size * (len(ids) - 1)))


def continued(history: Content, tokens: int, fresh: int) -> Content:
    """A prompt of ``tokens`` tokens that continues its history, or (where it is shorter) starts afresh."""
    known = length(history)
    if known < tokens:
        return (*history, (fresh, tokens - known))
    return history if known == tokens else ((fresh, tokens),)


def task_of(row: Row) -> str:
    """The optional task class."""
    return text(row, "task") if "task" in row else "default"


def slo_of(row: Row, name: str) -> float:
    """An optional objective in ms, in seconds (inf: none)."""
    if row.get(name) is None:
        return inf
    value = number(row, name, high=MAX_SECONDS * 1e3) / 1e3
    if value == 0:
        raise RowError(f"{name} must be positive")
    return value
