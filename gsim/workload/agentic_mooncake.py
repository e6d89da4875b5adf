"""dynamo's agentic Mooncake JSON lines, version 2: requests with the requests that they wait for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from gsim.core import register
from gsim.core.errors import TraceError
from gsim.workload.clock import in_order
from gsim.workload.grouping import grouped
from gsim.workload.history import block_content
from gsim.workload.mooncake import milliseconds, slo_of, task_of
from gsim.workload.play import Play, Turn, Wait, segment
from gsim.workload.recorded import Recorded
from gsim.workload.report import Report, RowError, RowErrors
from gsim.workload.rows import Row, brief, json_rows, text, whole, wholes

SCHEMA = "dynamo.agentic_mooncake"
VERSION = 2


@register("trace", "agentic_mooncake")
@dataclass(frozen=True, kw_only=True)
class AgenticMooncake(Recorded):
    """dynamo agentic_mooncake v2 JSON lines: a graph of requests per play (spawn, sequence, join), closed loop."""

    def plays(self, report: Report, rng: np.random.Generator) -> Iterator[Play]:
        """See ``Recorded``. Requests of a play stand after those that they wait for."""
        errors = self.errors(report)
        header = next(json_rows(self.path, errors.quiet()), None)
        if header is None:
            return
        block_size, local = _header(self.path, *header)
        plays = grouped(self._rows, lambda: lambda row: text(row, "play_id"), errors)
        made = (
            play
            for name, rows in plays
            if (play := _play(rows, errors, block_size, segment("agentic", name), local)) is not None
        )
        yield from in_order(made, errors)

    def _rows(self, errors: RowErrors) -> Iterator[tuple[int, Row]]:
        return islice(json_rows(self.path, errors), 1, None)


def _header(path: str, line: int, row: Row) -> tuple[int, bool]:
    """Block size, and whether block ids are only unique inside a play."""
    try:
        if row.get("schema") != SCHEMA or row.get("version") != VERSION:
            raise RowError(
                f"the first line must be a header with schema {SCHEMA!r}, version {VERSION}; not "
                f"{brief(row.get('schema'))}, version {brief(row.get('version'))}"
            )
        scope = row.get("hash_id_scope", "local")
        if scope not in ("local", "global"):
            raise RowError(f"hash_id_scope must be local or global, not {brief(scope)}")
        return whole(row, "block_size"), scope == "local"
    except RowError as error:
        raise TraceError(path, line, str(error)) from None


def _play(rows: list[tuple[int, Row]], errors: RowErrors, block_size: int, scope: int, local: bool) -> Play | None:
    turns: list[Turn] = []
    places: dict[str, int] = {}
    arrival_s, first_line, slo_s = 0.0, 0, float("inf")
    for line, row in rows:
        try:
            name = text(row, "request_id")
            if name in places:
                raise RowError(f"request_id {name!r} appears twice in its play")
            waits = _waits(row, places)
            if not waits and turns and not row.get("dependencies"):
                start_s = milliseconds(row, "not_before_ms") if row.get("not_before_ms") is not None else arrival_s
                if start_s != arrival_s:
                    raise RowError("a play has one start: a request that waits for none must share its not_before_ms")
            tokens = whole(row, "input_length")
            ids = wholes(row, "hash_ids")
            if len(ids) != -(-tokens // block_size):
                raise RowError(f"hash_ids must name {-(-tokens // block_size)} blocks of {block_size} tokens")
            content = block_content([segment(scope, block) for block in ids] if local else ids, tokens, block_size)
            session_slo_s = slo_of(row, "session_slo_ms")
            turn = Turn(
                tokens,
                whole(row, "output_length"),
                waits,
                content,
                task=task_of(row),
                slo_s=slo_of(row, "slo_ms"),
            )
            if not turns:
                arrival_s = milliseconds(row, "not_before_ms") if row.get("not_before_ms") is not None else 0.0
                first_line, slo_s = line, session_slo_s
        except RowError as error:
            errors.bad(line, error)
            continue
        places[name] = len(turns)
        turns.append(turn)
    return Play(arrival_s, tuple(turns), first_line, slo_s) if turns else None


def _waits(row: Row, places: dict[str, int]) -> tuple[Wait, ...]:
    listed = row.get("dependencies") or []
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise RowError(f"dependencies must be a list of objects, not {brief(listed)}")
    waits = []
    for item in listed:
        name = text(item, "request_id")
        if name not in places:
            raise RowError(f"waits for {name!r}, which does not stand before it in its play")
        trigger = item.get("trigger", "completion")
        if trigger not in ("dispatch", "completion"):
            raise RowError(f"trigger must be dispatch or completion, not {brief(trigger)}")
        delay_s = milliseconds(item, "delay_ms") if item.get("delay_ms") is not None else 0.0
        waits.append(Wait(places[name], delay_s, trigger == "completion"))
    if len({wait.turn for wait in waits}) < len(waits):
        raise RowError("dependencies names a request twice")
    return tuple(waits)
