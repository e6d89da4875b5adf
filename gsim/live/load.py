"""A trace as load on live servers: sessions arrive and go on as in a simulation, over HTTP and in real time."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, nan
from typing import Any, NamedTuple

from gsim.cluster.arrivals import Arrivals
from gsim.core import Job, Session, Status
from gsim.gateway.clock import Clock
from gsim.live.bodies import chat_text
from gsim.live.outcome import Hearing, Outcome
from gsim.live.pace import Pace
from gsim.live.prompts import prompt_ids
from gsim.live.silence import Silence
from gsim.live.vocabulary import vocabulary
from gsim.live.wire import Wires

#: Bytes of an answer that is an error that are told.
_LONGEST_REFUSAL = 150


@dataclass(frozen=True)
class LoadOptions:
    """How requests are put."""

    urls: Sequence[str]
    """Where requests go: to these in turn, by their ids (a gateway is the only one)."""
    model: str
    speed: float = 1.0
    """Seconds of the trace per second of real time."""
    plain: bool = False
    """For gateways that know chats alone and pass no headers on: a chat of the same length that asks for exactly as
    many tokens as there are to be. Else token ids, the client's own limit, and a header that tells the emulated server
    where the answer ends."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of every request."""
    timeout_s: float = 600.0
    """Longest silence of a server, in real seconds."""
    warm: Sequence[str] = ()
    """Servers to which a connection is open before the first request is sent, once for each time that one is named.
    Who has to connect first comes later than who has not, and they change places."""


#: Told that clients are ready; the moment of the monotonic clock at which the trace begins.
Begin = Callable[[], Awaitable[float]]


async def now() -> float:
    """Begin at once."""
    return time.monotonic()


class _Asked(NamedTuple):
    """A request, ready to be sent."""

    wires: Wires
    path: str
    data: bytes
    headers: dict[str, str]
    with_ids: bool
    """The answer comes with token ids."""


class Load:
    """Sessions of a trace as clients: a turn is asked its gap after the answer that it waits for."""

    def __init__(self, sessions: Iterator[Session], options: LoadOptions) -> None:
        self.outcomes: list[Outcome] = []
        self._options = options
        self._wires = {url: Wires(url) for url in (*options.urls, *options.warm)}
        clock = Clock()
        self._clock = clock
        self._arrivals = Arrivals(clock, sessions, self._submit, self._lost, self._check)
        self._tasks: set[asyncio.Task[None]] = set()
        self._answered: dict[int, list[int]] = {}
        self._words = vocabulary(32_000)
        self._frame = len(self._words.ids_of(chat_text([{"role": "user", "content": ""}])))
        """Tokens of a chat that are not the message's."""
        self._done = asyncio.Event()
        self._error: Exception | None = None

    async def run(self, begin: Begin = now) -> list[Outcome]:
        """All of it; the outcomes by request id. ``begin`` is asked when all connections are open."""
        try:
            await asyncio.gather(*(self._wires[url].open(count) for url, count in Counter(self._options.warm).items()))
            began_s = await begin()
            self._arrivals.start()
            await asyncio.sleep(began_s - time.monotonic())
            self._pace = Pace(self._clock, self._options.speed, self._broken, began_s)
            self._pace.do(self._check)
            await self._done.wait()
            self._pace.close()
        finally:
            for wires in self._wires.values():
                wires.close()
        if self._error is not None:
            raise self._error
        return sorted(self.outcomes, key=lambda outcome: outcome.request_id)

    def _broken(self, error: Exception) -> None:
        """The trace itself is wrong: there is nothing to go on with."""
        self._error = error
        self._done.set()

    def _submit(self, job: Job) -> None:
        # The clock may be a little behind: the request arrives when it is sent.
        task = asyncio.get_running_loop().create_task(self._ask(job))
        self._tasks.add(task)
        self._arrivals.dispatched(job, self._pace.clock.now)

    def _lost(self, job: Job, _now_s: float) -> None:
        request = job.request
        self.outcomes.append(Outcome(request.request_id, nan, request.slo_s, error="what it waits for was lost"))

    def _check(self) -> None:
        if self._arrivals.finished and not self._arrivals.waiting and not self._tasks:
            self._done.set()

    async def _ask(self, job: Job) -> None:
        asked = self._asked(job)
        # From now on it is the servers' time.
        outcome = Outcome(job.request.request_id, self._pace.now_s(), job.request.slo_s)
        task = asyncio.current_task()
        assert task is not None
        silence = Silence(task, self._options.timeout_s)
        try:
            await self._stream(asked, outcome, silence)
            outcome.status = Status.FINISHED
        except asyncio.CancelledError:
            if not silence.too_long:
                raise
            outcome.error = f"nothing came for {self._options.timeout_s:g} s"
        except (OSError, ValueError, KeyError, TypeError) as error:
            outcome.error = f"{type(error).__name__}: {error}"[:200]
        finally:
            silence.close()
        if outcome.error:
            outcome.finished_s = nan
        self.outcomes.append(outcome)
        if job.output_segment >= 0:
            self._answered[job.output_segment] = outcome.output_ids
        self._tasks.discard(task)
        self._pace.do(self._ended, job, outcome)

    def _ended(self, job: Job, outcome: Outcome) -> None:
        self._arrivals.ended(job, outcome.status, self._pace.clock.now)
        self._check()

    async def _stream(self, asked: _Asked, outcome: Outcome, silence: Silence) -> None:
        reply = await asked.wires.post(asked.path, asked.data, asked.headers)
        try:
            if reply.status != 200:
                told = (await reply.read(_LONGEST_REFUSAL)).decode("utf-8", "replace")
                raise ValueError(f"HTTP {reply.status}: {told}")
            hearing = Hearing(outcome, self._pace, silence, asked.with_ids)
            await reply.pass_to(hearing.take)
            hearing.close()
        finally:
            reply.close()

    def _asked(self, job: Job) -> _Asked:
        options, request = self._options, job.request
        body: dict[str, Any] = {
            "model": options.model,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_token_ids": job.output_segment >= 0 and not options.plain,
            **options.body,
        }
        ids = prompt_ids(request, self._answered)
        if options.plain:
            text = "".join(map(self._words.text_of, ids[self._frame :]))
            body |= {"messages": [{"role": "user", "content": text}]}
            body |= {"max_tokens": job.output_tokens, "ignore_eos": True}
        else:
            body |= {"prompt": ids, "max_tokens": request.max_output_tokens}
        headers = {
            "x-request-id": f"r{request.request_id}",
            "x-task": request.task,
            "x-gsim-eos-at": str(request.prompt_tokens + job.output_tokens),
        }
        if request.slo_s < inf:
            headers["x-slo-ms"] = f"{request.slo_s * 1e3:.3f}"
        if request.session_id >= 0:
            headers["x-session-id"] = str(request.session_id)
        wires = self._wires[options.urls[request.request_id % len(options.urls)]]
        path = "/v1/chat/completions" if options.plain else "/v1/completions"
        return _Asked(wires, path, json.dumps(body).encode(), headers, body["return_token_ids"])
