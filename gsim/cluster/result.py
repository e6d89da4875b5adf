"""What a run leaves: one row per request and per session, in columns, and what each instance did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gsim.gateway.records import Columns, Table

# Name and type code of each column; the order is that of the row.
_SESSION_COLUMNS = (
    ("session_id", "q"),
    ("jobs", "q"),
    ("arrival_s", "d"),
    ("finished_s", "d"),
    ("slo_s", "d"),
    ("missed", "q"),
)


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
