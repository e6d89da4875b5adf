"""Mooncake JSON lines: lengths and prefix-chained block ids of requests or of the turns of sessions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import inf

import numpy as np

from gsim.core import ConfigError, register
from gsim.core.request import Content
from gsim.workload.formats.clock import check_equal_times, ordered
from gsim.workload.formats.grouping import grouped, play_of
from gsim.workload.formats.history import block_content, continued
from gsim.workload.formats.recorded import Recorded
from gsim.workload.play import NO_CLOCK, Play, Turn, Wait, length, segment
from gsim.workload.report import Report, RowError, RowErrors
from gsim.workload.rows import MAX_SECONDS, Row, json_rows, moment, number, parsed, text, whole, wholes

VARIANTS = ("auto", "request", "session", "delta")


@register("trace", "mooncake")
@dataclass(frozen=True, kw_only=True)
class Mooncake(Recorded):
    """Mooncake JSON lines (FAST'25 release, aiperf sessions, dynamo delta): lengths and prefix block ids."""

    max_output_tokens: int = 4096
    """What each client asks for at most. Longer outputs are cut to it."""
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
        variant = self.variant
        if variant == "auto":
            head = next(json_rows(self.path, errors.quiet()), (1, {}))
            variant = "session" if "session_id" in head[1] else "request"
        if variant == "request":
            made: Iterator[Play] = (play for _, play in parsed(json_rows(self.path, errors), errors, self._play))
        else:
            made = self._sessions(errors, delta=variant == "delta")
        yield from ordered(made, errors, self.equal_times, self.window_s, rng)

    def _play(self, line: int, row: Row) -> Play:
        arrival_s = moment(row, "timestamp", 1e3)
        prompt_tokens = whole(row, "input_length")
        turn = Turn(
            prompt_tokens,
            whole(row, "output_length"),
            content=blocks(row, prompt_tokens, self.block_size),
            task=task_of(row),
            slo_s=slo_of(row, "slo_ms"),
        )
        return Play(arrival_s, (turn,), line)

    def _sessions(self, errors: RowErrors, *, delta: bool) -> Iterator[Play]:
        for name, rows in grouped(lambda reporting: json_rows(self.path, reporting), lambda: _session_id, errors):
            turn_of = partial(self._turn, segment("mooncake", name), delta)
            play = play_of(rows, errors, turn_of, _arrival_s)
            if play is not None:
                first = dict(rows)[play.row]
                yield play._replace(slo_s=slo_of(first, "session_slo_ms"))

    def _turn(self, scope: int, delta: bool, row: Row, turns: list[Turn]) -> Turn:
        tokens = whole(row, "input_length")
        own = blocks(row, tokens, self.block_size)
        index = len(turns)
        fresh = segment(scope, index)
        after: tuple[Wait, ...] = ()
        content = own or ((fresh, tokens),)
        if turns:
            before = turns[-1]
            after = (Wait(index - 1, milliseconds(row, "delay")),)
            if delta:
                content = (*before.content, (before.output_segment, before.output_tokens), *content)
            elif not own:
                content = continued(before, tokens, fresh)
        return Turn(
            length(content),
            whole(row, "output_length"),
            after,
            content,
            segment(scope, index, 1),
            task_of(row),
            slo_s=slo_of(row, "slo_ms"),
        )


def _session_id(row: Row) -> str:
    return text(row, "session_id")


def _arrival_s(row: Row) -> float:
    slo_of(row, "session_slo_ms")  # refused here, where its row is known
    return moment(row, "timestamp", 1e3) if "timestamp" in row else NO_CLOCK


def milliseconds(row: Row, name: str) -> float:
    """A field in milliseconds, in seconds."""
    return number(row, name, high=MAX_SECONDS * 1e3) / 1e3


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


def task_of(row: Row) -> str:
    """The optional task class."""
    return text(row, "task") if "task" in row else "default"


def slo_of(row: Row, name: str) -> float:
    """An optional objective in ms, in seconds (inf: none)."""
    if row.get(name) is None:
        return inf
    value = milliseconds(row, name)
    if value == 0:
        raise RowError(f"{name} must be positive")
    return value
