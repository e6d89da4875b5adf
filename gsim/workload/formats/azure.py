"""Azure LLM inference traces (2023, 2024): arrival, prompt and output lengths of production requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from gsim.core import register
from gsim.workload.formats.clock import check_equal_times, ordered
from gsim.workload.formats.recorded import Recorded
from gsim.workload.play import Play, single
from gsim.workload.report import Report, RowError
from gsim.workload.rows import Row, brief, csv_rows, parsed, whole

_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


@register("trace", "azure")
@dataclass(frozen=True, kw_only=True)
class Azure(Recorded):
    """Azure 2023 / 2024 CSV: TIMESTAMP, ContextTokens, GeneratedTokens (CC-BY-4.0). Single requests, open loop."""

    max_output_tokens: int = 4096
    """What each client asks for at most (the longest output of 2023 has 1,899 tokens). Longer outputs are cut to it."""
    equal_times: str = "refuse"
    """``refuse``, ``allow`` or ``spread`` requests of the same time (the 2023 files have none)."""
    window_s: float = 0.001
    """spread: over how long."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_equal_times(self.equal_times, self.window_s)

    def plays(self, report: Report, rng: np.random.Generator) -> Iterator[Play]:
        """See ``Recorded``."""
        errors = self.errors(report)
        rows = parsed(csv_rows(self.path, errors, _COLUMNS), errors, _play)
        return ordered((play for _, play in rows), errors, self.equal_times, self.window_s, rng)


def _play(number: int, row: Row) -> Play:
    return single(_seconds(row["TIMESTAMP"]), whole(row, "ContextTokens"), whole(row, "GeneratedTokens"), number)


def _seconds(stamp: str) -> float:
    """Seconds since 1970 of ``2023-11-16 18:15:46.6805900`` (UTC), with or without ``+00:00``; to 0.1 us."""
    whole_part, _, fraction = stamp.strip().removesuffix("+00:00").partition(".")
    try:
        moment = datetime.fromisoformat(whole_part)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        if fraction and not fraction.isdecimal():
            raise ValueError
        return moment.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)
    except (ValueError, OverflowError):
        raise RowError(f"TIMESTAMP must look like 2023-11-16 18:15:46.6805900, not {brief(stamp)}") from None
