"""What the gateway writes down of requests: a row when one ends, and, on demand, every decision with what it saw."""

from __future__ import annotations

from math import nan
from typing import Any

from gsim.core import ClusterView, Status
from gsim.gateway.active import Active
from gsim.gateway.records import Table

# Name and type code of each column; the order is that of the row.
_COLUMNS = (
    ("request_id", "q"),
    ("session_id", "q"),
    ("turn", "q"),
    ("task", "q"),
    ("instance", "q"),
    ("status", "b"),
    ("arrival_s", "d"),
    ("dispatched_s", "d"),
    ("first_token_s", "d"),
    ("finished_s", "d"),
    ("ended_s", "d"),
    ("slo_s", "d"),
    ("prompt_tokens", "q"),
    ("output_tokens", "q"),
    ("generated_tokens", "q"),
    ("cached_tokens", "q"),
    ("computed_tokens", "q"),
    ("recomputed_tokens", "q"),
    ("preemptions", "q"),
    ("migrations", "q"),
    ("retries", "q"),
    ("predicted_tokens", "d"),
)


class RequestLog:
    """One row per ended request."""

    def __init__(self) -> None:
        self.table = Table(_COLUMNS)
        self.tasks: dict[str, int] = {}
        """Task classes, by the code that stands for each in the ``task`` column."""

    def __len__(self) -> int:
        return len(self.table)

    def ended(self, active: Active, status: Status, now_s: float) -> None:
        """Write the row of a request that has just ended."""
        origin = active.origin
        request = origin.request
        self.table.add(
            (
                request.request_id,
                request.session_id,
                request.turn,
                self.tasks.setdefault(request.task, len(self.tasks)),
                active.instance,
                status,
                request.arrival_s,
                active.dispatched_s,
                active.first_token_s,
                now_s if status is Status.FINISHED else nan,
                now_s,
                request.slo_s,
                request.prompt_tokens,
                origin.output_tokens,
                active.generated_before,
                active.cached_tokens,
                active.computed_tokens,
                active.recomputed_tokens,
                active.preemptions,
                active.migrations,
                active.retries,
                active.predicted_tokens,
            )
        )


class DecisionLog:
    """What happened to requests, and what the router saw when it chose: a mapping each, in time order."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def routed(self, active: Active, decision: object, view: ClusterView) -> None:
        """The router has chosen."""
        self.rows.append(
            {
                "time_s": view.now_s,
                "request_id": active.origin.request.request_id,
                "what": "route",
                "instance": decision if isinstance(decision, int) else getattr(decision, "value", str(decision)),
                "predicted_tokens": active.predicted_tokens,
                "in_flight": view.in_flight.tolist(),
                "queue_s": view.queue_s.tolist(),
                "prefill_s_per_token": view.prefill_s_per_token.tolist(),
                "tpot_s": view.tpot_s.tolist(),
                "waiting": view.waiting.tolist(),
                "kv_usage": view.kv_usage.tolist(),
            }
        )

    def ended(self, active: Active, status: Status, now_s: float) -> None:
        """A request has ended."""
        row = {
            "time_s": now_s,
            "request_id": active.origin.request.request_id,
            "what": status.name.lower(),
            "instance": active.instance,
        }
        self.rows.append(row)
