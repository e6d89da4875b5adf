"""OpenTelemetry GenAI spans (OTLP JSON, as a collector's file exporter writes it) as sessions of an agent.

A span that calls a model (``gen_ai.operation.name`` chat, text_completion or generate_content) is a turn. Spans of
agents and tools are passed over: their time is the gap between turns. A session is a conversation
(``gen_ai.conversation.id``), else a trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from gsim.core import Content, register
from gsim.workload.formats.history import continued
from gsim.workload.formats.json_values import json_values
from gsim.workload.formats.recorded import Recorded
from gsim.workload.play import Play, Turn, Wait, segment
from gsim.workload.report import Report, RowError
from gsim.workload.rows import Row, brief, whole

_OPERATIONS = ("chat", "text_completion", "generate_content")
_FAILED = (2, "STATUS_CODE_ERROR")


@register("trace", "otel")
@dataclass(frozen=True, kw_only=True)
class OpenTelemetry(Recorded):
    """OpenTelemetry GenAI spans, OTLP JSON: the model calls of a conversation (else of a trace), closed loop."""

    task: str = ""
    """Task class of every request; empty: the span's ``gen_ai.agent.name``, else ``agent``."""

    def plays(self, report: Report, rng: np.random.Generator) -> Iterator[Play]:
        """See ``Recorded``. Spans come in any order, so all calls are held. Failed calls are left out and counted."""
        sessions: dict[str, list[_Call]] = {}
        errors = self.errors(report)
        for item, row in json_values(self.path, errors):
            try:
                calls = [_call(span, item, self.task) for span in _spans(row)]
            except RowError as error:
                errors.bad(item, error)
                continue
            for call in calls:
                if call is not None and call.output_tokens == 0:
                    report.failed += 1
                elif call is not None:
                    sessions.setdefault(call.session, []).append(call)
        ordered = [sorted(own, key=lambda call: call.start_ns) for own in sessions.values()]
        ordered.sort(key=lambda own: own[0].start_ns)
        for own in ordered:
            yield _play(own, ordered[0][0].start_ns)


class _Call(NamedTuple):
    session: str
    start_ns: int
    end_ns: int
    prompt_tokens: int
    output_tokens: int
    task: str
    row: int


def _spans(row: Row) -> Iterator[Row]:
    """The spans of an export; other signals (logs, metrics) have none."""
    for resource in _objects(row, "resourceSpans"):
        for scope in _objects(resource, "scopeSpans"):
            yield from _objects(scope, "spans")


def _objects(row: Row, name: str) -> list[Row]:
    found = row.get(name) or []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise RowError(f"{name} must be a list of objects, not {brief(found)}")
    return found


def _call(span: Row, row: int, task: str) -> _Call | None:
    """The model call that a span is; None for any other span."""
    said = {str(item.get("key")): _value(item.get("value") or {}) for item in _objects(span, "attributes")}
    operation = said.get("gen_ai.operation.name")
    if operation not in _OPERATIONS and not (operation is None and "gen_ai.request.model" in said):
        return None
    name = f"span {span.get('spanId') or '?'}"
    status = span.get("status")
    failed = isinstance(status, dict) and status.get("code") in _FAILED
    if failed or said.get("gen_ai.usage.output_tokens") in (None, 0):
        return _Call("", 0, 0, 0, 0, "", row)
    try:
        start_ns, end_ns = (int(span[key]) for key in ("startTimeUnixNano", "endTimeUnixNano"))
    except (KeyError, TypeError, ValueError):
        raise RowError(f"{name}: startTimeUnixNano and endTimeUnixNano must be whole numbers") from None
    if end_ns < start_ns:
        raise RowError(f"{name}: ends before it begins")
    try:
        prompt, output = (whole(said, f"gen_ai.usage.{kind}_tokens") for kind in ("input", "output"))
    except RowError as error:
        raise RowError(f"{name}: {error}") from None
    session = said.get("gen_ai.conversation.id") or span.get("traceId")
    if not session:
        raise RowError(f"{name}: has neither gen_ai.conversation.id nor a traceId")
    return _Call(
        str(session), start_ns, end_ns, prompt, output, task or str(said.get("gen_ai.agent.name") or "agent"), row
    )


def _value(value: Mapping[str, Any]) -> Any:
    """An attribute's value; whole numbers come as texts."""
    if not isinstance(value, dict):
        raise RowError(f"an attribute's value must be an object, not {brief(value)}")
    found = next(iter(value.values()), None)
    number = "intValue" in value and isinstance(found, str) and found.lstrip("-").isdecimal()
    return int(str(found)) if number else found


def _play(calls: list[_Call], first_ns: int) -> Play:
    builder = _Builder(calls)
    turns = tuple(builder.turn(i) for i in range(len(calls)))
    return Play((calls[0].start_ns - first_ns) / 1e9, turns, calls[0].row)


@dataclass
class _Builder:
    calls: list[_Call]
    made: list[Turn] = field(default_factory=list)
    open: list[int] = field(default_factory=list)
    """Turns that nothing waits for yet."""

    def turn(self, i: int) -> Turn:
        """The next turn: it waits for what had ended before it and nothing waited for yet, so parallel calls join."""
        call = self.calls[i]
        ended = [j for j in range(i) if self.calls[j].end_ns <= call.start_ns]
        joined = [j for j in self.open if j in ended] or ended[-1:]
        fresh = segment("otel", call.session, i)
        last = max(ended, key=lambda j: self.calls[j].end_ns, default=None)
        content: Content = ((fresh, call.prompt_tokens),)
        if last is not None:
            content = continued(self.made[last], call.prompt_tokens, fresh)
        waits = [Wait(j, (call.start_ns - self.calls[j].end_ns) / 1e9) for j in joined]
        if i and not waits:
            waits = [Wait(i - 1, (call.start_ns - self.calls[i - 1].start_ns) / 1e9, on_completion=False)]
        turn = Turn(
            call.prompt_tokens,
            call.output_tokens,
            after=tuple(waits),
            content=content,
            output_segment=segment("otel", call.session, i, 1),
            task=call.task,
        )
        self.open = [j for j in self.open if j not in joined] + [i]
        self.made.append(turn)
        return turn
