"""What a run leaves: one row per request and per session, in columns (a row costs about 130 bytes)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]


#: NumPy's types of the codes that ``struct`` packs.
_TYPES = {"q": np.int64, "b": np.int8, "d": np.float64}
# Name and type code of each column; the order is that of the row.
_SESSION_COLUMNS = (
    ("session_id", "q"),
    ("jobs", "q"),
    ("arrival_s", "d"),
    ("finished_s", "d"),
    ("slo_s", "d"),
    ("missed", "q"),
)


_BLOCK_ROWS = 4096


class Table:
    """Rows of numbers, packed one behind the other: one call a row, and about as many bytes as the numbers have."""

    def __init__(self, columns: tuple[tuple[str, str], ...]) -> None:
        layout = struct.Struct("=" + "".join(code for _, code in columns))
        self._pack = layout.pack
        self._row_bytes = layout.size
        self._type = np.dtype([(name, _TYPES[code]) for name, code in columns])
        self._rows = bytearray()

    def __len__(self) -> int:
        return len(self._rows) // self._row_bytes

    def add(self, row: tuple[float, ...]) -> None:
        """Append one row, a value per column."""
        self._rows += self._pack(*row)

    def columns(self, sort_by: str) -> Columns:
        """The columns as arrays, rows sorted by one of them."""
        rows = np.frombuffer(self._rows, dtype=self._type)
        order = np.argsort(rows[sort_by], kind="stable")
        columns = {name: np.empty(len(rows), dtype=self._type[name]) for name in self._type.names or ()}
        # A block of rows at a time stays in the processor's cache while each of its columns is taken out.
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = rows[order[start : start + _BLOCK_ROWS]]
            for name, column in columns.items():
                column[start : start + _BLOCK_ROWS] = block[name]
        return columns


class SessionLog(Table):
    """One row per session of several requests, or with an objective of its own (open when the run stopped: NaN)."""

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
    """Simulated time at which the last request ended, or the run was stopped."""
    samples: Columns = field(default_factory=dict)
    """State of the instances over time (only with ``telemetry.sample_interval_s``)."""
    moves: Columns = field(default_factory=dict)
    """One row per migration that was decided, in time order (fields of ``moves.Move``); empty without a rectifier."""
    decisions: list[dict[str, Any]] = field(default_factory=list)
    """What happened to requests and what the router saw (only with ``telemetry.log_decisions``), in time order."""
    counters: dict[str, int] = field(default_factory=dict)
    """Counts of work: routing decisions, wake-ups, reviews, migrations ... (for guards against accidental cost)."""
