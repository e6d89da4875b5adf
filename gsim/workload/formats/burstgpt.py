"""BurstGPT CSV: ChatGPT and GPT-4 requests of a campus, with sessions in version 3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gsim.core import register
from gsim.workload.formats.clock import check_equal_times, ordered, runs_back
from gsim.workload.formats.grouping import grouped, play_of
from gsim.workload.formats.history import continued
from gsim.workload.formats.recorded import Recorded
from gsim.workload.play import Play, Turn, Wait, segment
from gsim.workload.report import Report, RowError
from gsim.workload.rows import Row, csv_rows, moment, number, parsed, whole

_COLUMNS = ("Timestamp", "Request tokens", "Response tokens")


@register("trace", "burstgpt")
@dataclass(frozen=True, kw_only=True)
class BurstGpt(Recorded):
    """BurstGPT CSV (CC-BY-4.0): single requests, or closed-loop sessions where rows have a Session ID (version 3)."""

    equal_times: str = "spread"
    """``refuse``, ``allow`` or ``spread`` requests of the same time (the clock has whole seconds)."""
    window_s: float = 1.0
    """spread: over how long."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_equal_times(self.equal_times, self.window_s)

    def plays(self, report: Report, rng: np.random.Generator) -> Iterator[Play]:
        """See ``Recorded``. Rows with 0 response tokens failed when recorded; they are left out and counted."""
        errors = self.errors(report)
        first = next(csv_rows(self.path, errors.quiet(), _COLUMNS), (1, {}))[1]
        if "Session ID" in first:
            plays = self._sessions(report)
        else:
            rows = csv_rows(self.path, errors, _COLUMNS)
            plays = (
                Play(at_s, (turn,), line)
                for line, (at_s, turn) in parsed(rows, errors, lambda _, row: _single(row, report))
            )
        yield from ordered(plays, errors, self.equal_times, self.window_s, rng)

    def _sessions(self, report: Report) -> Iterator[Play]:
        errors = self.errors(report)
        for name, rows in grouped(lambda own: csv_rows(self.path, own, _COLUMNS), _session_keys, errors):
            session = _Session(segment("burstgpt", name), report)
            play = play_of(rows, errors, session.turn, lambda row: moment(row, "Timestamp"))
            if play is not None:
                yield play


class _Session:
    def __init__(self, scope: int, report: Report) -> None:
        self.scope = scope
        self.report = report
        self.idle_s = 0.0
        self.last_s = -1.0

    def turn(self, row: Row, turns: list[Turn]) -> Turn | None:
        at_s = moment(row, "Timestamp")
        if at_s < self.last_s:
            raise RowError(runs_back(at_s, self.last_s, " inside its session"))
        read = _single(row, self.report)
        gap_s = max(at_s - self.idle_s, 0.0)
        self.last_s = at_s
        self.idle_s = at_s + (number(row, "Elapsed time") if row.get("Elapsed time") else 0.0)
        if read is None:
            return None
        turn, here = read[1], len(turns)
        fresh = segment(self.scope, here)
        return turn._replace(
            after=(Wait(here - 1, gap_s),) if turns else (),
            content=continued(turns[-1], turn.prompt_tokens, fresh) if turns else ((fresh, turn.prompt_tokens),),
            output_segment=segment(self.scope, here, 1),
        )


def _single(row: Row, report: Report) -> tuple[float, Turn] | None:
    """Time and turn of a row, by itself; None where it failed."""
    at_s, tokens = moment(row, "Timestamp"), whole(row, "Request tokens", low=0)
    output = whole(row, "Response tokens", low=0)
    if output == 0:
        report.failed += 1
        return None
    if tokens == 0:
        raise RowError("Request tokens must be in [1, 10000000], not 0")
    task = str(row.get("Log Type", "default")).strip().lower().removesuffix(" log") or "default"
    return at_s, Turn(tokens, output, task={"conversation": "chat"}.get(task, task))


def _session_keys() -> Callable[[Row], str]:
    """From a row to its session; rows without one (API calls) are sessions of their own."""
    alone = 0

    def key(row: Row) -> str:
        nonlocal alone
        name = str(row.get("Session ID", "")).strip()
        if name:
            return f"session {name}"
        alone += 1
        return f"alone {alone}"

    return key
