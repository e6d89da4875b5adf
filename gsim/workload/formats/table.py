"""A table of requests, a row each, whatever its columns are called: CSV (plain, gz, zst) or Parquet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from gsim.core import ConfigError, TraceError, register
from gsim.workload.formats.clock import in_order, runs_back
from gsim.workload.formats.grouping import grouped
from gsim.workload.formats.history import continued
from gsim.workload.formats.recorded import Recorded
from gsim.workload.play import Play, Turn, Wait, segment
from gsim.workload.report import Report, RowError, RowErrors
from gsim.workload.rows import Row, csv_rows, number, present, text, whole

#: The column of times by its unit, and how many of them are a second (None: date and time in ISO 8601).
_CLOCKS: Mapping[str, int | None] = {
    "time_s": 1,
    "time_ms": 1_000,
    "time_us": 1_000_000,
    "time_ns": 1_000_000_000,
    "time_iso": None,
}
_NEEDED = ("prompt_tokens", "output_tokens")
_FURTHER = ("session", "task", "slo_s", "session_slo_s")
_NO_SLO = math.inf


@register("trace", "table")
@dataclass(frozen=True, kw_only=True)
class Table(Recorded):
    """A CSV (plain, gz, zst) or Parquet file, a row per request; ``columns`` says what its columns are called."""

    columns: dict[str, str] = field(default_factory=dict)
    """What gsim asks for -> the file's column: one of ``time_s``, ``time_ms``, ``time_us``, ``time_ns``, ``time_iso``
    (the unit is in the name; the first row is moved to 0, so epoch times will do), ``prompt_tokens``,
    ``output_tokens``; if there are such: ``session``, ``task``, ``slo_s`` (with ``slo=trace``), ``session_slo_s``
    (of a session's first row; a later one is empty or says the same). A column of that very name need not be listed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known = (*_CLOCKS, *_NEEDED, *_FURTHER)
        unknown = [name for name in self.columns if name not in known]
        if unknown:
            raise ConfigError(f"trace.columns: '{unknown[0]}' is not known; there are: {', '.join(known)}")
        clocks = [name for name in self.columns if name in _CLOCKS]
        if len(clocks) > 1:
            raise ConfigError(f"trace.columns: {' and '.join(clocks)} are two clocks; give one")

    def plays(self, report: Report, rng: np.random.Generator) -> Iterator[Play]:
        """See ``Recorded``. A turn of a session comes as long after the one before as recorded, and never before that
        one has ended; where its prompt is long enough, it continues that one's prompt and output."""
        errors = self.errors(report)
        reader = _Reader(self._names(), self.path)
        yield from in_order(reader.plays(self._rows, errors), errors)

    def _names(self) -> dict[str, str]:
        """Every column that is read -> what the file calls it; raises ``TraceError`` where one is missing."""
        there = self._header()
        clocks = [name for name in self.columns if name in _CLOCKS] or [name for name in _CLOCKS if name in there]
        if len(clocks) > 1:
            told = (
                f"{' and '.join(clocks)} are two clocks; trace.columns={{{clocks[0]}: {clocks[0]}}} says which counts"
            )
            raise TraceError(self.path, 1, told)
        if not clocks:
            raise TraceError(
                self.path,
                1,
                f"no column of times; name it: trace.columns={{time_s: NAME}} (or time_ms, time_us, "
                f"time_ns, time_iso); the file has: {', '.join(there)}",
            )
        names = {clocks[0]: self.columns.get(clocks[0], clocks[0])}
        names |= {name: self.columns.get(name, name) for name in _NEEDED}
        names |= {name: self.columns.get(name, name) for name in _FURTHER if name in self.columns or name in there}
        for name, column in names.items():
            if column not in there:
                raise TraceError(
                    self.path,
                    1,
                    f"no column '{column}' for {name}; the file has: {', '.join(there)} "
                    f"(trace.columns={{{name}: NAME}} says which one it is)",
                )
        return names

    def _header(self) -> list[str]:
        if self._is_parquet():
            return list(_parquet(self.path).schema_arrow.names)
        for _, row in csv_rows(self.path, self.errors(Report()).quiet(), ()):
            return list(row)
        raise TraceError(self.path, None, "no request to replay: it holds no row under its header")

    def _is_parquet(self) -> bool:
        try:
            with open(self.path, "rb") as raw:
                return raw.read(4) == b"PAR1"
        except OSError as error:
            raise TraceError(self.path, None, f"cannot be read: {error.strerror}") from None

    def _rows(self, errors: RowErrors) -> Iterator[tuple[int, Row]]:
        if not self._is_parquet():
            yield from csv_rows(self.path, errors, ())
            return
        line = 0
        for batch in _parquet(self.path).iter_batches(columns=list(self._names().values())):
            for row in batch.to_pylist():
                line += 1
                errors.report.rows += 1
                yield line, row


class _Reader:
    """Rows as plays, by what their columns are called."""

    def __init__(self, names: Mapping[str, str], path: str) -> None:
        self.names = names
        self.clock = next(name for name in names if name in _CLOCKS)
        self.path = path
        self.first: float | None = None

    def plays(self, rows: Callable[[RowErrors], Iterator[tuple[int, Row]]], errors: RowErrors) -> Iterator[Play]:
        for _, found in grouped(rows, self._sessions, errors):
            play = self._play(found, errors)
            if play is not None:
                yield play

    def _sessions(self) -> Callable[[Row], str]:
        alone = 0
        column = self.names.get("session")

        def key(row: Row) -> str:
            nonlocal alone
            if column is not None and row.get(column) not in (None, ""):
                return f"session {text(row, column)}"
            alone += 1
            return f"alone {alone}"

        return key

    def _play(self, rows: list[tuple[int, Row]], errors: RowErrors) -> Play | None:
        turns: list[Turn] = []
        times: list[float] = []
        first = rows[0]
        slo_s = _NO_SLO
        for line, row in rows:
            try:
                at_s = self._time_s(row)
                if times and at_s < times[-1]:
                    raise RowError(runs_back(at_s, times[-1], " inside its session"))
                turn = self._turn(row, turns, at_s - times[-1] if times else 0.0, line)
                own_slo_s = self._seconds(row, "session_slo_s")
                if turns and own_slo_s not in (slo_s, _NO_SLO):
                    raise RowError(f"session_slo_s is {own_slo_s:g}, but its session began with {_seconds_text(slo_s)}")
            except RowError as error:
                errors.bad(line, error)
                continue
            if not turns:
                first, slo_s = (line, row), own_slo_s
            turns.append(turn)
            times.append(at_s)
        return Play(times[0], tuple(turns), first[0], slo_s) if turns else None

    def _turn(self, row: Row, turns: list[Turn], gap_s: float, line: int) -> Turn:
        prompt = whole(row, self.names["prompt_tokens"])
        output = whole(row, self.names["output_tokens"])
        column = self.names.get("task")
        task = "default" if column is None or row.get(column) in (None, "") else text(row, column)
        here = len(turns)
        turn = Turn(prompt, output, task=task, slo_s=self._seconds(row, "slo_s"))
        if "session" not in self.names:
            return turn
        fresh = segment("table", line)
        return turn._replace(
            after=(Wait(here - 1, gap_s, on_completion=False), Wait(here - 1, 0.0)) if turns else (),
            content=continued(turns[-1], prompt, fresh) if turns else ((fresh, prompt),),
            output_segment=segment("table", line, 1),
        )

    def _seconds(self, row: Row, name: str) -> float:
        column = self.names.get(name)
        if column is None or row.get(column) in (None, ""):
            return _NO_SLO
        seconds = number(row, column)
        if not seconds > 0:
            raise RowError(f"{column} must be greater than 0, not {seconds:g}")
        return seconds

    def _time_s(self, row: Row) -> float:
        """Seconds since the first row (whole numbers are subtracted as such: epoch nanoseconds stay exact)."""
        column, per_second = self.names[self.clock], _CLOCKS[self.clock]
        at = _iso_s(column, present(row, column)) if per_second is None else _exact(row, column)
        if self.first is None:
            self.first = at
        return (at - self.first) / (per_second or 1)


def _seconds_text(slo_s: float) -> str:
    return "none" if slo_s == _NO_SLO else f"{slo_s:g}"


def _exact(row: Row, column: str) -> float:
    value = row.get(column)
    if type(value) is int:
        return value
    if isinstance(value, str) and value.isascii() and value.strip().removeprefix("-").isdecimal():
        return int(value)
    return number(row, column, low=-1e19, high=1e19)


def _iso_s(column: str, value: object) -> float:
    """Seconds since 1970 of a date and time; without a zone it is taken as UTC."""
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
    except ValueError:
        raise RowError(f"{column} must be a date and time such as 2026-11-16T18:15:46.5, not {value!r}") from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def _parquet(path: str) -> Any:
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise TraceError(path, None, f"cannot be read as Parquet: {error}") from None
