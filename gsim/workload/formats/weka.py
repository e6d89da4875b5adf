"""kv-cache-tester ("weka") JSON: coding-agent sessions with block ids, think times and sub-agents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import NamedTuple

import numpy as np

from gsim.core import Content, register
from gsim.workload.formats.history import block_content
from gsim.workload.formats.json_values import json_values
from gsim.workload.formats.untimed import Untimed
from gsim.workload.play import NO_CLOCK, Play, Turn, Wait, segment
from gsim.workload.report import Report, RowError
from gsim.workload.rows import Row, folder_or_file, moment, number, parsed, present, text, whole, wholes

#: Clocks of the files have whole seconds: a sub-agent that ended this little after a turn began still joined it.
_CLOCK_S = 1.0


@register("trace", "weka")
@dataclass(frozen=True, kw_only=True)
class Weka(Untimed):
    """kv-cache-tester JSON, a file or a folder of them (one session each): closed loop, sub-agents fan out and join."""

    task: str = "code_agent"
    """Task class of every request."""

    def plays(self, report: Report, rng: np.random.Generator) -> Iterator[Play]:
        """See ``Recorded``. A session with a bad request is a bad row: its later requests hang on it.

        Requests without output (the recorded call failed) are left out and counted.
        """
        for path in folder_or_file(self.path, "*.json*"):
            errors = self.errors(report).at(path)
            for _, play in parsed(json_values(path, errors), errors, partial(self._play, report, path)):
                yield play

    def _play(self, report: Report, path: str, item: int, row: Row) -> Play | None:
        block_size = whole(row, "block_size") if "block_size" in row else 64
        scope = row.get("hash_id_scope", "local")
        if scope not in ("local", "global"):
            raise RowError(f"hash_id_scope must be local or global, not {scope!r}")
        # Block ids of a local scope mean nothing outside their session: the session's name salts them.
        own = segment(path, item, text(row, "id") if "id" in row else "")
        salt = own if scope == "local" else segment("weka")
        builder = _Builder(block_size, salt, own, self.task, report)
        builder.chain(_requests(row), None, 0.0)
        return Play(NO_CLOCK, tuple(builder.turns), item) if builder.turns else None


class _Ended(NamedTuple):
    """The last turn of a chain, and when it ended as recorded."""

    turn: int
    at_s: float


@dataclass
class _Builder:
    block_size: int
    salt: int
    own: int
    task: str
    report: Report
    turns: list[Turn] = field(default_factory=list)

    def chain(self, requests: Sequence[Row], start: _Ended | None, offset_s: float) -> _Ended | None:
        """Turns one after the other, after ``start``; sub-agents between them run beside the chain.

        A turn waits for the turn before it, and for every sub-agent that had ended when it began. ``offset_s`` is
        added to recorded times (a sub-agent's may count from its own start).
        """
        last = start
        beside: list[_Ended] = []
        for request in requests:
            at_s = moment(request, "t") + offset_s
            if request.get("type") == "subagent":
                nested = _requests(request)
                first_s = moment(nested[0], "t")
                ended = self.chain(nested, last, 0.0 if first_s >= at_s else at_s)
                if ended is not None:
                    beside.append(ended)
                continue
            api_s = number(request, "api_time") if request.get("api_time") is not None else 0.0
            joined = [ended for ended in beside if ended.at_s <= at_s + _CLOCK_S]
            beside = [ended for ended in beside if ended not in joined]
            turn = self._turn(request, last, joined, at_s)
            if turn is not None:
                last = _Ended(turn, at_s + api_s)
            elif joined:
                beside.extend(joined)
        return max(
            [ended for ended in (last, *beside) if ended is not None and ended is not start],
            key=lambda ended: ended.at_s,
            default=None,
        )

    def _turn(self, request: Row, last: _Ended | None, joined: list[_Ended], at_s: float) -> int | None:
        tokens, output = whole(request, "in"), whole(request, "out", low=0)
        if output == 0:
            self.report.failed += 1
            return None
        waits = {}
        for ended in joined:
            waits[ended.turn] = max(at_s - ended.at_s, 0.0)
        if last is not None:
            think_s = request.get("think_time")
            # The think time after a sub-agent counts from its end, not from the turn that called it.
            gap_s = number(request, "think_time", low=-inf) if think_s is not None else at_s - last.at_s
            waits.setdefault(last.turn, 0.0 if joined else max(gap_s, 0.0))
        after = tuple(Wait(turn, gap_s) for turn, gap_s in sorted(waits.items()))
        here = len(self.turns)
        content = self._content(request, tokens, here)
        self.turns.append(Turn(tokens, output, after, content, segment(self.own, here, 1), self.task))
        return here

    def _content(self, request: Row, tokens: int, here: int) -> Content:
        """Blocks as named; tokens after the last named block belong to this request alone."""
        ids = wholes(request, "hash_ids") if request.get("hash_ids") is not None else ()
        size = self.block_size
        if len(ids) > -(-tokens // size):
            raise RowError(f"hash_ids names {len(ids)} blocks of {size} tokens for {tokens} tokens")
        fresh = segment(self.own, here)
        if not ids:
            return ((fresh, tokens),)
        named = min(len(ids) * size, tokens)
        content = block_content(ids, named, size, lambda block: segment(self.salt, 0, block))
        return content if named == tokens else (*content, (fresh, tokens - named))


def _requests(row: Row) -> list[Row]:
    requests = present(row, "requests")
    if not isinstance(requests, list) or not requests or not all(isinstance(part, dict) for part in requests):
        raise RowError("requests must be a list of objects, at least one")
    return requests
