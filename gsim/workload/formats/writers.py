"""Sessions written as trace files: dependency graphs (dynamo agentic_mooncake v2) and Mooncake JSON lines."""

from __future__ import annotations

import gzip
import heapq
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any, TextIO

from gsim.core import ConfigError, Content, Job, Session, block_hashes
from gsim.core.files import written
from gsim.workload.formats.agentic_mooncake import SCHEMA, VERSION
from gsim.workload.play import length, segment

#: Whole numbers up to here survive a JSON reader that knows only doubles.
_ID_MASK = (1 << 53) - 1

Line = dict[str, Any]


@contextmanager
def _lines(path: str | Path) -> Iterator[TextIO]:
    with written(Path(path)) as aside:
        if aside.suffix == ".gz":
            with gzip.open(aside, "wt", encoding="utf-8") as text:
                yield text
        else:
            with aside.open("w", encoding="utf-8") as text:
                yield text


def _write(path: str | Path, rows: Iterable[Line]) -> int:
    count = 0
    with _lines(path) as text:
        for row in rows:
            text.write(json.dumps(row, separators=(",", ":")) + "\n")
            count += 1
    return count


def hash_ids(content: Content, tokens: int, block_size: int, alone: int) -> list[int]:
    """Ids of a prompt's blocks, each standing for the block and all before it; the last may be partly filled.

    A prompt without content shares nothing: its blocks are named after ``alone``.
    """
    pieces = content or ((segment("alone", alone), tokens),)
    ids = block_hashes(pieces, block_size)
    filled = len(ids) * block_size
    if filled < tokens:
        rest: list[int] = []
        at = 0
        for piece, size in pieces:
            if at + size > filled:
                rest += [piece, max(filled - at, 0), size]
            at += size
        ids.append(segment(ids[-1] if ids else 0, *rest))
    return [block & _ID_MASK for block in ids]


def _milliseconds(seconds: float) -> float | int:
    value = round(seconds * 1e3, 3)
    return int(value) if value == int(value) else value


def _check(block_size: int) -> None:
    if block_size < 1:
        raise ConfigError(f"block_size must be at least 1, not {block_size}")


def _lengths(job: Job, block_size: int) -> Line:
    request = job.request
    if request.content and length(request.content) != request.prompt_tokens:
        raise ConfigError(f"request {request.request_id}: its content is not as long as its prompt")
    return {
        "input_length": request.prompt_tokens,
        "output_length": job.output_tokens,
        "hash_ids": hash_ids(request.content, request.prompt_tokens, block_size, request.request_id),
        "task": request.task,
        **({"slo_ms": _milliseconds(request.slo_s)} if request.slo_s < inf else {}),
    }


def write_agentic_mooncake(
    sessions: Iterable[Session], path: str | Path, *, block_size: int = 16, model: str = "model"
) -> int:
    """Write a dependency graph per session; returns the number of requests.

    Block ids are global: prompts of unlike sessions that share a prefix share its ids. ``task`` and ``slo_ms`` (and
    ``session_slo_ms`` on the first request of a session) are ours; other readers ignore them. What an engine could
    reuse of a *generated* text is written only as far as later prompts hold it.
    """
    _check(block_size)
    header = {"schema": SCHEMA, "version": VERSION, "block_size": block_size, "hash_id_scope": "global"}

    def rows() -> Iterator[Line]:
        yield header
        for session in sessions:
            for i, job in enumerate(session.jobs):
                yield _graph_row(session, i, job, block_size, model)

    return _write(path, rows()) - 1


def _graph_row(session: Session, i: int, job: Job, block_size: int, model: str) -> Line:
    relation = "join" if len(job.after) > 1 else "sequence"
    dependencies = [
        {
            "request_id": str(dependency.request_id),
            "trigger": "completion" if dependency.on_completion else "dispatch",
            "delay_ms": _milliseconds(dependency.delay_s),
            "relation": relation if dependency.on_completion else "spawn",
        }
        for dependency in job.after
    ]
    row = {
        "request_id": str(job.request.request_id),
        "play_id": str(session.session_id),
        "session_id": str(session.session_id),
        "model": model,
        **_lengths(job, block_size),
        "not_before_ms": 0 if job.after else _milliseconds(session.arrival_s),
        "dependencies": dependencies,
    }
    if i == 0 and session.slo_s < inf:
        row["session_slo_ms"] = _milliseconds(session.slo_s)
    return row


def write_mooncake(sessions: Iterable[Session], path: str | Path, *, block_size: int = 512) -> int:
    """Write Mooncake JSON lines of sessions: ``session_id``, the first turn's timestamp, the others' ``delay``.

    Returns the number of requests.

    A session must be a chain (every turn waits for the completion of the one before); ``ConfigError`` otherwise.
    """
    _check(block_size)

    def rows() -> Iterator[Line]:
        for session in sessions:
            for i, job in enumerate(session.jobs):
                row: Line = {"session_id": str(session.session_id)}
                if i == 0:
                    row["timestamp"] = _milliseconds(session.arrival_s)
                    if session.slo_s < inf:
                        row["session_slo_ms"] = _milliseconds(session.slo_s)
                else:
                    row["delay"] = _milliseconds(_chained(session, i))
                yield {**row, **_lengths(job, block_size)}

    return _write(path, rows())


def _chained(session: Session, i: int) -> float:
    after = session.jobs[i].after
    before = session.jobs[i - 1].request.request_id
    if len(after) != 1 or after[0].request_id != before or not after[0].on_completion:
        raise ConfigError(
            f"session {session.session_id} is no chain of turns: write it as agentic_mooncake (a dependency graph)"
        )
    return after[0].delay_s


def write_mooncake_requests(
    sessions: Iterable[Session], path: str | Path, *, block_size: int = 512, tpot_s: float = 0.03
) -> int:
    """Write Mooncake JSON lines of single requests, each with a timestamp (what open-loop replayers such as
    ``vllm bench serve`` take); returns their number.

    Turns of sessions are placed as if every output token took ``tpot_s``: an assumption that a closed-loop replay does
    not need. Rows are in order of time.
    """
    _check(block_size)
    if not 0 <= tpot_s < inf:
        raise ConfigError(f"tpot_s must be 0 or more, not {tpot_s}")
    due: list[tuple[float, int, Line]] = []

    def rows() -> Iterator[Line]:
        for session in sessions:
            while due and due[0][0] <= session.arrival_s:
                yield heapq.heappop(due)[2]
            starts: dict[int, float] = {}
            spans: dict[int, float] = {}
            for job in session.jobs:
                request = job.request
                start_s = max(
                    (
                        starts[d.request_id] + d.delay_s + (spans[d.request_id] if d.on_completion else 0.0)
                        for d in job.after
                    ),
                    default=session.arrival_s,
                )
                starts[request.request_id], spans[request.request_id] = start_s, tpot_s * job.output_tokens
                line = {"timestamp": _milliseconds(start_s), **_lengths(job, block_size)}
                heapq.heappush(due, (start_s, request.request_id, line))
        while due:
            yield heapq.heappop(due)[2]

    return _write(path, rows())


#: What ``convert`` can write, by name.
WRITERS: dict[str, Callable[..., int]] = {
    "agentic_mooncake": write_agentic_mooncake,
    "mooncake": write_mooncake,
    "mooncake_requests": write_mooncake_requests,
}
