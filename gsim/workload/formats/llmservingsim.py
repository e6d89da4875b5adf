"""LLMServingSim JSON lines: sessions of sub-requests with tool times, or single requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gsim.core import register
from gsim.workload.formats.clock import in_order
from gsim.workload.formats.history import continued
from gsim.workload.formats.recorded import Recorded
from gsim.workload.play import Play, Turn, Wait, segment
from gsim.workload.report import Report, RowError
from gsim.workload.rows import MAX_SECONDS, Row, json_rows, moment, number, parsed, present, text, whole


@register("trace", "llmservingsim")
@dataclass(frozen=True, kw_only=True)
class LlmServingSim(Recorded):
    """LLMServingSim JSON lines: one line is a session (``sub_requests``, closed loop) or a single request."""

    task: str = "code_agent"
    """Task class of every request (the published workload is SWE-bench)."""

    def plays(self, report: Report, rng: np.random.Generator) -> Iterator[Play]:
        """See ``Recorded``. Inputs are cumulative: a sub-request continues what came before where it is long enough."""
        errors = self.errors(report)
        rows = parsed(json_rows(self.path, errors), errors, self._play)
        yield from in_order((play for _, play in rows), errors)

    def _play(self, line: int, row: Row) -> Play:
        arrival_s = moment(row, "arrival_time_ns", 1e9)
        if "sub_requests" not in row:
            turn = Turn(whole(row, "input_toks"), whole(row, "output_toks"), task=self.task)
            return Play(arrival_s, (turn,), line)
        parts = present(row, "sub_requests")
        if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
            raise RowError("sub_requests must be a list of objects, at least one")
        scope = segment("llmservingsim", text(row, "session_id"), line)
        turns: list[Turn] = []
        gap_s = 0.0
        for i, part in enumerate(parts):
            tokens, fresh = whole(part, "input_toks"), segment(scope, i)
            turns.append(
                Turn(
                    tokens,
                    whole(part, "output_toks"),
                    (Wait(i - 1, gap_s),) if turns else (),
                    continued(turns[-1], tokens, fresh) if turns else ((fresh, tokens),),
                    segment(scope, i, 1),
                    self.task,
                )
            )
            gap_s = _nanoseconds(part, "tool_duration_ns") if "tool_duration_ns" in part else 0.0
        return Play(arrival_s, tuple(turns), line)


def _nanoseconds(row: Row, name: str) -> float:
    return number(row, name, high=MAX_SECONDS * 1e9) / 1e9
