"""Turns of coding agents as CSV: lengths, what each turn reuses, and the gap before it (derived from kv-cache-tester
and lmcache-agent-trace)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import numpy as np

from gsim.core import ConfigError, register
from gsim.workload.formats.grouping import grouped, play_of
from gsim.workload.formats.history import reused
from gsim.workload.formats.untimed import Untimed
from gsim.workload.play import NO_CLOCK, Play, Turn, Wait, segment
from gsim.workload.report import Report, RowError
from gsim.workload.rows import Row, csv_rows, moment, number, text, whole

_COLUMNS = ("sid", "turn", "t", "input_tokens", "output_tokens", "prefix_tokens_session")


@register("trace", "agent_csv")
@dataclass(frozen=True, kw_only=True)
class AgentCsv(Untimed):
    """Coding-agent sessions as CSV (one row per turn, reused prefix given), closed loop. Session arrivals are drawn."""

    recorded_tpot_s: float = 0.03
    """Files without ``gap_before_s``: a turn was assumed to take this long per output token, the rest of the time
    to the next turn is its gap."""
    shared_system: bool = False
    """Sessions whose system prompt and tools have the same length (``system_tool_tokens``) share them. The data cannot
    tell: its block ids are local to a session."""
    task: str = "code_agent"
    """Task class of every request."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.recorded_tpot_s < 10:
            raise ConfigError(f"trace.recorded_tpot_s must be in [0, 10), not {self.recorded_tpot_s}")

    def plays(self, report: Report, rng: np.random.Generator) -> Iterator[Play]:
        """See ``Recorded``. Rows without output (the recorded call failed) are left out and counted."""
        errors = self.errors(report)
        sessions = grouped(lambda own: csv_rows(self.path, own, _COLUMNS), lambda: lambda row: row["sid"], errors)
        for name, rows in sessions:
            # Parallel calls end in any order: rows lie in order of time, turns count in order of prompts.
            rows.sort(key=lambda numbered: _turn_number(numbered[1]))
            session = _Session(self, segment("agent_csv", name), report)
            play = play_of(rows, errors, session.turn, lambda row: NO_CLOCK)
            if play is not None:
                yield play


def _turn_number(row: Row) -> float:
    """Where a row belongs (a broken one last: it is refused when it is read)."""
    try:
        return whole(row, "turn", low=0)
    except RowError:
        return inf


class _Session:
    """Turns of one session as they are read."""

    def __init__(self, trace: AgentCsv, scope: int, report: Report) -> None:
        self.trace = trace
        self.scope = scope
        self.report = report
        self.last = -1
        self.idle_s = 0.0
        """When the last turn read is assumed to have ended."""

    def turn(self, row: Row, turns: list[Turn]) -> Turn | None:
        tokens, prefix = whole(row, "input_tokens"), whole(row, "prefix_tokens_session", low=0)
        output, index = whole(row, "output_tokens", low=0), whole(row, "turn", low=0)
        if prefix > tokens:
            raise RowError(f"prefix_tokens_session ({prefix}) exceeds input_tokens ({tokens})")
        if index <= self.last:
            raise RowError(f"turn {index} appears twice in its session")
        gap_s = self._gap_s(row)
        self.last, self.idle_s = index, self._ended_s(row, output)
        if output == 0:
            self.report.failed += 1
            return None
        here = len(turns)
        return Turn(
            tokens,
            output,
            (Wait(here - 1, gap_s),) if turns else (),
            reused(turns, prefix, tokens, segment(self.scope, here)) if turns else self._opening(row, tokens),
            segment(self.scope, here, 1),
            self.trace.task,
        )

    def _gap_s(self, row: Row) -> float:
        if row.get("gap_before_s"):
            return number(row, "gap_before_s")
        return max(moment(row, "t") - self.idle_s, 0.0) if self.last >= 0 else 0.0

    def _ended_s(self, row: Row, output: int) -> float:
        started_s = moment(row, "t")
        if row.get("recorded_api_s"):
            return started_s + number(row, "recorded_api_s")
        return started_s + self.trace.recorded_tpot_s * output

    def _opening(self, row: Row, tokens: int) -> tuple[tuple[int, int], ...]:
        own = segment(self.scope, 0)
        system = whole(row, "system_tool_tokens", low=0) if row.get("system_tool_tokens") else 0
        if not self.trace.shared_system or not 0 < system < tokens:
            return ((own, tokens),)
        return ((segment("system", text(row, "system_tool_tokens")), system), (own, tokens - system))
