"""Qwen-Bailian JSON lines: chats of Alibaba's production services with parents and 16-token block ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gsim.core import ConfigError, register
from gsim.workload.formats.clock import check_equal_times, ordered
from gsim.workload.formats.grouping import grouped
from gsim.workload.formats.history import block_content
from gsim.workload.formats.recorded import Recorded
from gsim.workload.play import Play, Turn, Wait
from gsim.workload.report import Report, RowError, RowErrors
from gsim.workload.rows import Row, json_rows, moment, text, whole, wholes


@register("trace", "qwen_bailian")
@dataclass(frozen=True, kw_only=True)
class QwenBailian(Recorded):
    """Qwen-Bailian JSON lines (chat, API, coder, thinking): trees of chats, closed loop, with 16-token blocks."""

    block_size: int = 16
    """Tokens per block id."""
    recorded_tpot_s: float = 0.03
    """The recorded system is assumed to have taken this long per output token: what is left of the time to a follow-up
    is its gap after the previous turn."""
    equal_times: str = "allow"
    """``refuse``, ``allow`` or ``spread`` chats of the same time (the clock has milliseconds)."""
    window_s: float = 0.001
    """spread: over how long."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_equal_times(self.equal_times, self.window_s)
        if self.block_size < 1:
            raise ConfigError(f"trace.block_size must be at least 1, not {self.block_size}")
        if not 0 <= self.recorded_tpot_s < 10:
            raise ConfigError(f"trace.recorded_tpot_s must be in [0, 10), not {self.recorded_tpot_s}")

    def plays(self, report: Report, rng: np.random.Generator) -> Iterator[Play]:
        """See ``Recorded``. A follow-up whose parent is not in the file starts a session of its own."""
        errors = self.errors(report)
        trees = grouped(lambda own: json_rows(self.path, own), _roots, errors)
        plays = (play for _, rows in trees if (play := self._tree(rows, errors)) is not None)
        return ordered(plays, errors, self.equal_times, self.window_s, rng)

    def _tree(self, rows: list[tuple[int, Row]], errors: RowErrors) -> Play | None:
        turns: list[Turn] = []
        chats: dict[str, tuple[int, float]] = {}
        first_s, first_line = 0.0, 0
        for line, row in rows:
            try:
                at_s = moment(row, "timestamp")
                chat = text(row, "chat_id")
                if chat in chats:
                    raise RowError(f"chat_id {chat} appears twice")
                turn = self._turn(row, turns, chats, at_s)
            except RowError as error:
                errors.bad(line, error)
                continue
            chats[chat] = (len(turns), at_s)
            if not turns:
                first_s, first_line = at_s, line
            turns.append(turn)
        return Play(first_s, tuple(turns), first_line) if turns else None

    def _turn(self, row: Row, turns: list[Turn], chats: dict[str, tuple[int, float]], at_s: float) -> Turn:
        tokens = whole(row, "input_length")
        ids = wholes(row, "hash_ids")
        if len(ids) != -(-tokens // self.block_size):
            raise RowError(f"hash_ids must name {-(-tokens // self.block_size)} blocks for {tokens} tokens")
        after: tuple[Wait, ...] = ()
        if turns:
            parent = chats.get(text(row, "parent_chat_id"))
            if parent is None:
                raise RowError(f"its parent, chat {text(row, 'parent_chat_id')}, was left out")
            index, parent_s = parent
            if at_s < parent_s:
                raise RowError("it comes before its parent")
            think_s = at_s - parent_s - self.recorded_tpot_s * turns[index].output_tokens
            after = (Wait(index, max(think_s, 0.0)),)
        content = block_content(ids, tokens, self.block_size)
        task = text(row, "type") if "type" in row else "default"
        return Turn(tokens, whole(row, "output_length"), after, content, task=task)


def _roots() -> Callable[[Row], str]:
    """From a row to the first chat of its tree."""
    known: dict[str, str] = {}

    def root(row: Row) -> str:
        chat = text(row, "chat_id")
        parent = text(row, "parent_chat_id") if "parent_chat_id" in row else "-1"
        known.setdefault(chat, known.get(parent, chat))
        return known[chat]

    return root
