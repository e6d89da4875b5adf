"""A trace that a caller has in memory: a table of requests, or requests and sessions as gsim has them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.core import ConfigError, Job, Session, Streams, TraceError
from gsim.workload.formats.table import Table
from gsim.workload.report import Report, RowError, RowErrors
from gsim.workload.rows import MAX_CLOCK_SECONDS, Row, number
from gsim.workload.slo import SloRule

if TYPE_CHECKING:
    import pandas as pd

_CLOCK = "arrival_s"


@dataclass(frozen=True, kw_only=True)
class OwnTable(Table):
    """A DataFrame with columns ``arrival_s``, ``prompt_tokens``, ``output_tokens`` and, if there are such, ``session``,
    ``task``, ``slo_s`` and ``session_slo_s``; rows in any order, the first arrival is moved to 0."""

    path: str = "the DataFrame"
    columns: dict[str, str] = field(default_factory=lambda: {"time_s": _CLOCK})
    frame: pd.DataFrame = field(compare=False, repr=False)

    @property
    def has_objectives(self) -> bool:
        """The requests have deadlines of their own."""
        return "slo_s" in self.frame.columns

    def _header(self) -> list[str]:
        return [str(name) for name in self.frame.columns]

    def _rows(self, errors: RowErrors) -> Iterator[tuple[int, Row]]:
        names = self._header()
        columns = [self.frame[name].to_numpy(dtype=object) for name in self.frame.columns]
        rows = [dict(zip(names, map(_plain, values), strict=True)) for values in zip(*columns, strict=True)]
        errors.report.rows += len(rows)
        timed = []
        for place, row in enumerate(rows, start=1):
            try:
                timed.append((number(row, _CLOCK, low=-MAX_CLOCK_SECONDS, high=MAX_CLOCK_SECONDS), place, row))
            except RowError as error:
                errors.bad(place, error)
        for _, place, row in sorted(timed, key=lambda item: item[:2]):
            yield place, row


def _plain(value: Any) -> Any:
    """A cell as a file would have it: no NumPy number, nothing where nothing is, and whole where it is whole (pandas
    writes whole numbers as floats where one of them is missing)."""
    value = value.item() if isinstance(value, np.generic) else value
    missing = value is None or (isinstance(value, float) and math.isnan(value)) or str(value) in ("<NA>", "NaT")
    if missing:
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class OwnSessions:
    """Sessions as they are, in order of arrival."""

    kept: tuple[Session, ...] = field(compare=False, repr=False)
    report: Report = field(init=False, default_factory=Report, compare=False, repr=False)

    @property
    def has_objectives(self) -> bool:
        """The requests have deadlines of their own."""
        return any(job.request.slo_s < math.inf for session in self.kept for job in session.jobs)

    def sessions(self, streams: Streams, slo: SloRule) -> Iterator[Session]:
        """The sessions, each request with the objective that the rule gives it."""
        rng = streams.stream("slo")
        for session in self.kept:
            jobs = [
                job._replace(request=job.request._replace(slo_s=slo.slo_s(job.request, job.output_tokens, rng)))
                for job in session.jobs
            ]
            yield session._replace(jobs=tuple(jobs))


def own_trace(given: Any) -> Any:
    """A DataFrame, a list of mappings (its rows), of jobs or of sessions, as a trace; anything else as it is."""
    if hasattr(given, "columns") and hasattr(given, "to_numpy"):
        return _of_frame(given)
    if not isinstance(given, Sequence) or isinstance(given, str):
        return given
    if not given:
        raise ConfigError("trace: the list has no request")
    kinds = {Mapping if isinstance(item, Mapping) else type(item) for item in given}
    if kinds == {Mapping}:
        import pandas as pd

        return _of_frame(pd.DataFrame(list(given)))
    if kinds == {Session}:
        for session in given:
            _check_jobs(session)
        return OwnSessions(tuple(sorted(given, key=lambda session: session.arrival_s)))
    if kinds == {Job}:
        return OwnSessions(tuple(sorted(map(_alone, range(len(given)), given), key=lambda s: s.arrival_s)))
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise ConfigError(f"trace: a list has rows (mappings), Jobs or Sessions, not {names}")


def _check_jobs(session: Session) -> None:
    jobs: object = session.jobs
    if not isinstance(jobs, list | tuple) or not all(isinstance(job, Job) for job in jobs):
        raise TraceError("trace", None, f"session {session.session_id}: jobs must be a tuple of Jobs, not {jobs!r:.80}")


def _alone(place: int, job: Job) -> Session:
    if not job.request.arrival_s >= 0:
        raise TraceError("trace", place + 1, f"arrival_s must be 0 or more, not {job.request.arrival_s}")
    return Session(place, job.request.arrival_s, (job._replace(request=job.request._replace(session_id=place)),))


def _of_frame(frame: pd.DataFrame) -> OwnTable:
    needed = (_CLOCK, "prompt_tokens", "output_tokens")
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        there = ", ".join(map(str, frame.columns))
        raise ConfigError(f"trace: the DataFrame has no column '{missing[0]}'; it has: {there}")
    if not frame.columns.is_unique:
        raise ConfigError(f"trace: the DataFrame has two columns '{frame.columns[frame.columns.duplicated()][0]}'")
    # A copy: what the caller does to the table later changes no run.
    return OwnTable(frame=frame.copy())
