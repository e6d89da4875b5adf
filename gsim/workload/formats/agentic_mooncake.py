"""dynamo's agentic Mooncake JSON lines, version 2: requests with the requests that they wait for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import inf

import numpy as np

from gsim.core import register
from gsim.core.errors import TraceError
from gsim.workload.formats.clock import in_order
from gsim.workload.formats.grouping import grouped
from gsim.workload.formats.history import block_content
from gsim.workload.formats.mooncake import milliseconds, slo_of, task_of
from gsim.workload.formats.recorded import Recorded
from gsim.workload.play import Play, Turn, Wait, segment
from gsim.workload.report import Report, RowError, RowErrors
from gsim.workload.rows import Row, brief, json_rows, moment, text, whole, wholes

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
    play = _Play(block_size, scope if local else None)
    for line, row in rows:
        try:
            play.add(line, row)
        except RowError as error:
            errors.bad(line, error)
    return Play(play.start_s, tuple(play.turns), play.line, play.slo_s) if play.turns else None


class _Play:
    """Requests of one play as they are read."""

    def __init__(self, block_size: int, scope: int | None) -> None:
        self.block_size = block_size
        self.scope = scope
        """The play's own name for block ids that mean nothing outside it."""
        self.turns: list[Turn] = []
        self.places: dict[str, int] = {}
        self.start_s = 0.0
        self.line = 0
        self.slo_s = inf

    def add(self, line: int, row: Row) -> None:
        name = text(row, "request_id")
        if name in self.places:
            raise RowError(f"request_id {name!r} appears twice in its play")
        waits = _waits(row, self.places)
        start_s = moment(row, "not_before_ms", 1e3) if row.get("not_before_ms") is not None else 0.0
        if self.turns and not waits and start_s != self.start_s:
            raise RowError("a play has one start: a request that waits for none must share its not_before_ms")
        slo_s = slo_of(row, "session_slo_ms")
        turn = self._turn(row, waits)
        if not self.turns:
            self.start_s, self.line, self.slo_s = start_s, line, slo_s
        self.places[name] = len(self.turns)
        self.turns.append(turn)

    def _turn(self, row: Row, waits: tuple[Wait, ...]) -> Turn:
        tokens, size = whole(row, "input_length"), self.block_size
        ids = wholes(row, "hash_ids")
        if len(ids) != -(-tokens // size):
            raise RowError(f"hash_ids must name {-(-tokens // size)} blocks of {size} tokens, not {len(ids)}")
        scope = self.scope
        if scope is None:
            content = block_content(ids, tokens, size)
        else:
            content = block_content(ids, tokens, size, lambda block: segment(scope, block))
        output = whole(row, "output_length")
        return Turn(tokens, output, waits, content, task=task_of(row), slo_s=slo_of(row, "slo_ms"))


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
