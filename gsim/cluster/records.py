"""What a run leaves: one row per request and per session, in columns (a row costs about 130 bytes)."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]


class Status(IntEnum):
    """How a request ended. Every request ends exactly once."""

    FINISHED = 0
    REJECTED = 1
    """Refused by the router or by an engine that could never run it."""
    FAILED = 2
    """Lost with its instance, or never sent because a request that it depends on was lost or refused."""


# Name and array type code of each request column; the order is that of RequestLog.add.
_REQUEST_COLUMNS = (
    ("request_id", "q"),
    ("session_id", "q"),
    ("turn", "l"),
    ("task", "l"),
    ("instance", "l"),
    ("status", "b"),
    ("arrival_s", "d"),
    ("dispatched_s", "d"),
    ("first_token_s", "d"),
    ("finished_s", "d"),
    ("slo_s", "d"),
    ("prompt_tokens", "l"),
    ("output_tokens", "l"),
    ("generated_tokens", "l"),
    ("cached_tokens", "l"),
    ("recomputed_tokens", "l"),
    ("preemptions", "l"),
    ("migrations", "l"),
    ("predicted_tokens", "d"),
)
_SESSION_COLUMNS = (
    ("session_id", "q"),
    ("jobs", "l"),
    ("arrival_s", "d"),
    ("finished_s", "d"),
    ("slo_s", "d"),
    ("missed", "l"),
)


class _Table:
    """Columns that grow by rows."""

    def __init__(self, columns: tuple[tuple[str, str], ...]) -> None:
        self._names = [name for name, _ in columns]
        self._arrays = [array(code) for _, code in columns]
        self._appends = [column.append for column in self._arrays]

    def __len__(self) -> int:
        return len(self._arrays[0])

    def add(self, row: tuple[float, ...]) -> None:
        """Append one row, a value per column."""
        for append, value in zip(self._appends, row, strict=True):
            append(value)  # type: ignore[arg-type]

    def columns(self, sort_by: str) -> Columns:
        """The columns as arrays, rows sorted by one of them."""
        arrays = {name: np.array(column) for name, column in zip(self._names, self._arrays, strict=True)}
        order = np.argsort(arrays[sort_by], kind="stable")
        return {name: values[order] for name, values in arrays.items()}


class RequestLog(_Table):
    """One row per ended request."""

    def __init__(self) -> None:
        super().__init__(_REQUEST_COLUMNS)
        self.tasks: dict[str, int] = {}

    def task_code(self, task: str) -> int:
        """The number that stands for a task class in the ``task`` column."""
        return self.tasks.setdefault(task, len(self.tasks))


class SessionLog(_Table):
    """One row per ended session of several requests, or with an objective of its own."""

    def __init__(self) -> None:
        super().__init__(_SESSION_COLUMNS)


@dataclass(frozen=True)
class InstanceSummary:
    """What one instance did in a run."""

    name: str
    gpu: str
    requests: int
    """Requests that ended here."""
    generated_tokens: int
    busy_s: float
    preemptions: int


@dataclass(frozen=True)
class RunResult:
    """What one run leaves."""

    requests: Columns
    """One row per request, sorted by ``request_id``; times in seconds, NaN where a thing did not happen; ``task`` is a
    code into ``tasks``, ``instance`` an index into ``instances`` (-1: none), ``status`` a ``Status``."""
    tasks: tuple[str, ...]
    sessions: Columns
    """One row per session of several requests, sorted by ``session_id``; ``missed`` counts requests out of time."""
    instances: tuple[InstanceSummary, ...]
    duration_s: float
    """Simulated time at which the last request ended."""
    samples: Columns = field(default_factory=dict)
    """State of the instances over time (only with ``telemetry.sample_interval_s``)."""
    moves: Columns = field(default_factory=dict)
    """One row per migration that was decided, in time order (fields of ``moves.Move``); empty without a rectifier."""
    decisions: list[dict[str, Any]] = field(default_factory=list)
    """What happened to requests and what the router saw (only with ``telemetry.log_decisions``), in time order."""
    counters: dict[str, int] = field(default_factory=dict)
    """Counts of work: routing decisions, wake-ups, reviews, migrations ... (for guards against accidental cost)."""
