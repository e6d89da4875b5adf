"""One run followed closely: where each request was, when, and what the router saw when it chose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gsim.cluster import RunResult
from gsim.core import Outcome
from gsim.run.cell import run
from gsim.run.settings import Settings


@dataclass(frozen=True)
class Stay:
    """A request on one instance: from when it was sent there until it ended there or left."""

    instance: int
    begin_s: float
    end_s: float
    first_token_s: float
    """NaN where the request produced no token here."""
    last: bool


@dataclass(frozen=True)
class Story:
    """Everything that a run's records say about one request."""

    record: Mapping[str, Any]
    """Its row of the request records."""
    decisions: tuple[Mapping[str, Any], ...]
    """What the router saw and chose, each time that it was asked."""
    moves: tuple[Mapping[str, Any], ...]
    """Its migrations, also those that came to nothing."""
    stays: tuple[Stay, ...]


def logged(settings: Settings, sample_interval_s: float | None = None) -> Settings:
    """The configuration with every decision logged, and the instances sampled where an interval is given."""
    telemetry = settings.plain()["telemetry"] | {"log_decisions": True}
    if sample_interval_s is not None:
        telemetry["sample_interval_s"] = sample_interval_s
    return settings.replace(telemetry=telemetry)


def followed(settings: Settings, seed: int, sample_interval_s: float | None = None) -> RunResult:
    """The run of this seed with every decision logged (and the instances sampled, where an interval is given)."""
    return run(logged(settings, sample_interval_s), seed)


def stories(result: RunResult) -> dict[int, Story]:
    """The story of every request, by its id."""
    decisions: dict[int, list[Mapping[str, Any]]] = {}
    for row in result.decisions:
        decisions.setdefault(int(row["request_id"]), []).append(row)
    moves: dict[int, list[Mapping[str, Any]]] = {}
    for i in range(len(result.moves.get("request_id", ()))):
        move = {name: values[i] for name, values in result.moves.items()}
        moves.setdefault(int(move["request_id"]), []).append(move)
    columns = result.requests
    found = {}
    for i, request in enumerate(columns["request_id"].tolist()):
        record = {name: values[i].item() for name, values in columns.items()}
        record["task"] = result.tasks[record["task"]] if result.tasks else ""
        own_decisions = tuple(decisions.get(request, ()))
        own_moves = tuple(moves.get(request, ()))
        stays = _stays(record, own_decisions, own_moves, result.duration_s)
        found[request] = Story(record, own_decisions, own_moves, stays)
    return found


def _stays(
    record: Mapping[str, Any],
    decisions: tuple[Mapping[str, Any], ...],
    moves: tuple[Mapping[str, Any], ...],
    end: float,
) -> tuple[Stay, ...]:
    """Instance by instance. A request that a crash threw back to the router starts again at its next dispatch."""
    starts = [(row["time_s"], int(row["instance"])) for row in decisions if _dispatches(row)]
    starts += [
        (float(move["submitted_s"]), int(move["target"]))
        for move in moves
        if int(move["outcome"]) == Outcome.MOVED and not math.isnan(move["submitted_s"])
    ]
    leaves = {
        round(float(move["submitted_s"]), 9): float(move["stopped_s"])
        for move in moves
        if int(move["outcome"]) == Outcome.MOVED and not math.isnan(move["stopped_s"])
    }
    starts.sort()
    final = record["finished_s"] if not math.isnan(record["finished_s"]) else end
    stays = []
    for i, (begin_s, instance) in enumerate(starts):
        last = i + 1 == len(starts)
        end_s = final if last else leaves.get(round(starts[i + 1][0], 9), starts[i + 1][0])
        first = record["first_token_s"]
        inside = begin_s <= first <= end_s if not math.isnan(first) else False
        resumed = next((float(m["next_token_s"]) for m in moves if float(m["submitted_s"]) == begin_s), math.nan)
        stays.append(Stay(instance, begin_s, max(begin_s, end_s), first if inside else resumed, last))
    return tuple(stays)


def _dispatches(row: Mapping[str, Any]) -> bool:
    return row["what"] == "route" and isinstance(row["instance"], int) and row["instance"] >= 0
