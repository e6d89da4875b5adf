"""What a run leaves: one row per request and per session, in columns, and what each instance did."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import nan
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
    power_s: float = nan
    """``busy_s``, weighted by the share of full power above idle that was drawn (less where a policy slows the
    card); NaN: nobody said."""
    paid_s: float = 0.0
    """Seconds for which the slot's instances were paid for: from start to stop, booting and draining included."""
    starts: int = 0
    """How often an instance was started in the slot (the one that was up at the beginning is none)."""
    cards: int = 1
    usd_per_hour: float = 0.0
    """Price of all cards; 0: none is known."""
    idle_w: float = nan
    """What all its cards draw while the instance computes nothing; NaN: not known."""
    busy_w: float = nan
    """And while it computes."""
    counts: dict[str, int] = field(default_factory=dict)
    """What its engine counted beside that (``Counting``): nothing, where nothing unusual is switched on."""


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
    handovers: Columns = field(default_factory=dict)
    """One row per prefill leg that ended, in time order (the same fields); empty in a pool without roles."""
    decisions: list[dict[str, Any]] = field(default_factory=list)
    """What happened to requests and what the router saw (only with ``telemetry.log_decisions``), in time order."""
    slots: Columns = field(default_factory=dict)
    """When which slot came into which ``SlotState``, in time order; empty where the pool is fixed."""
    counters: dict[str, int] = field(default_factory=dict)
    """Counts of work: routing decisions, wake-ups, reviews, migrations ... (for guards against accidental cost)."""
