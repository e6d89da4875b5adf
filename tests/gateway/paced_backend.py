"""A backend that is no engine: every token takes the same time, whatever else runs. As a server's would be, it is plain
Python on the gateway's clock."""

from __future__ import annotations

from gsim.core import EngineEvent, EventKind, Gauges, Job, Progress, StreamCount
from gsim.gateway.backend import Backend, Report
from gsim.gateway.clock import Clock


class Paced(Backend):
    """Streams each request's tokens at a steady pace."""

    def __init__(self, clock: Clock, index: int, report: Report, token_s: float = 0.01) -> None:
        self.clock, self.index, self.report, self.token_s = clock, index, report, token_s
        self.here: dict[int, list] = {}
        """Request id -> [job, tokens streamed, ticket]."""
        self.readable = True

    def send(self, job: Job, now_s: float, kv_tokens: int, ticket: object) -> None:
        entry = [job, 0, ticket]
        self.here[job.request.request_id] = entry
        self._next(entry)

    def _next(self, entry: list) -> None:
        self.clock.after(self.token_s, lambda: self._token(entry))

    def _token(self, entry: list) -> None:
        job, tokens, ticket = entry
        request_id = job.request.request_id
        if self.here.get(request_id) is not entry:
            return
        entry[1] = tokens = tokens + 1
        if tokens == 1:
            self.report(self.index, EngineEvent(self.clock.now, EventKind.FIRST_TOKEN, request_id, 1, 0, ticket))
        if tokens == job.output_tokens:
            del self.here[request_id]
            self.report(self.index, EngineEvent(self.clock.now, EventKind.FINISHED, request_id, tokens, 0, ticket))
        else:
            self._next(entry)

    def abort(self, request_id: int, now_s: float) -> Progress:
        job, tokens, _ = self.here.pop(request_id)
        return Progress(tokens, job.request.prompt_tokens + tokens - 1 if tokens else 0)

    def sync(self, now_s: float) -> None:
        """It reports by itself."""

    def forget(self, now_s: float) -> None:
        self.here.clear()

    def gauges(self, now_s: float) -> Gauges | None:
        return Gauges(len(self.here), 0, 0.0) if self.readable else None

    def progress(self, now_s: float) -> tuple[list[int], list[int]]:
        return list(self.here), [tokens for _, tokens, _ in self.here.values()]

    def streams(self, now_s: float) -> tuple[int, list[StreamCount]]:
        return 0, [StreamCount(i, tokens, False, ticket) for i, (_, tokens, ticket) in self.here.items()]
