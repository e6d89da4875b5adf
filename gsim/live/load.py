"""A trace as load on live servers: sessions arrive and go on as in a simulation, over HTTP and in real time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, nan
from typing import Any, NamedTuple

import aiohttp

from gsim.cluster.arrivals import Arrivals
from gsim.core import Job, Session, Status
from gsim.gateway.clock import Clock
from gsim.live.bodies import chat_text
from gsim.live.pace import Pace
from gsim.live.prompts import prompt_ids
from gsim.live.sse import DONE, Events
from gsim.live.vocabulary import vocabulary

#: The answer's header that says which instance it came from (the first one, where it was moved).
INSTANCE = "x-gsim-instance"


@dataclass
class Outcome:
    """What a client saw of one request; times are those of its clock, NaN where a thing did not happen."""

    request_id: int
    arrival_s: float
    slo_s: float
    instance: str = ""
    first_token_s: float = nan
    finished_s: float = nan
    output_tokens: int = 0
    status: Status = Status.FAILED
    error: str = ""
    output_ids: list[int] = field(default_factory=list, repr=False)

    @property
    def good(self) -> bool:
        """It finished inside its objective."""
        return self.finished_s - self.arrival_s <= self.slo_s


@dataclass(frozen=True)
class LoadOptions:
    """How requests are put."""

    url_of: Callable[[Job], str]
    """Where a request goes (a server, or a gateway for all)."""
    model: str
    speed: float = 1.0
    """Seconds of the trace per second of real time."""
    plain: bool = False
    """For gateways that know chats alone and pass no headers on: a chat of the same length that asks for exactly as
    many tokens as there are to be. Else token ids, the client's own limit, and a header that tells the emulated server
    where the answer ends."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of every request."""
    timeout_s: float = 600.0
    """Longest silence of a server, in real seconds."""
    warm: Sequence[str] = ()
    """Servers to which a connection is open before the first request is sent, once for each time that one is named.
    Who has to connect first comes later than who has not, and they change places."""


class _Asked(NamedTuple):
    """A request, ready to be sent."""

    url: str
    data: bytes
    headers: dict[str, str]
    with_ids: bool
    """The answer comes with token ids."""


class Load:
    """Sessions of a trace as clients: a turn is asked its gap after the answer that it waits for."""

    def __init__(self, sessions: Iterator[Session], options: LoadOptions) -> None:
        self.outcomes: list[Outcome] = []
        self._options = options
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

    async def run(self) -> list[Outcome]:
        """All of it; the outcomes by request id."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60.0)
        timeout = aiohttp.ClientTimeout(total=None, sock_read=self._options.timeout_s)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=1 << 18) as self._http:
            await asyncio.gather(*map(self._connect, self._options.warm))
            self._arrivals.start()
            self._pace = Pace(self._clock, self._options.speed, self._broken)
            self._pace.do(self._check)
            await self._done.wait()
        self._pace.close()
        if self._error is not None:
            raise self._error
        return sorted(self.outcomes, key=lambda outcome: outcome.request_id)

    async def _connect(self, url: str) -> None:
        async with self._http.get(f"{url}/health") as response:
            await response.read()

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
        try:
            await self._stream(asked, outcome)
            outcome.status = Status.FINISHED
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
            outcome.error = f"{type(error).__name__}: {error}"[:200]
            outcome.finished_s = nan
        self.outcomes.append(outcome)
        if job.output_segment >= 0:
            self._answered[job.output_segment] = outcome.output_ids
        task = asyncio.current_task()
        assert task is not None
        self._tasks.discard(task)
        self._pace.do(self._ended, job, outcome)

    def _ended(self, job: Job, outcome: Outcome) -> None:
        self._arrivals.ended(job, outcome.status, self._pace.clock.now)
        self._check()

    async def _stream(self, asked: _Asked, outcome: Outcome) -> None:
        async with self._http.post(asked.url, data=asked.data, headers=asked.headers) as response:
            if response.status != 200:
                raise ValueError(f"HTTP {response.status}: {(await response.text())[:150]}")
            events = Events()
            usage = None
            async for data in response.content.iter_any():
                found = events.feed(data)
                if found and outcome.first_token_s != outcome.first_token_s:
                    outcome.first_token_s = self._pace.now_s()
                for event in found:
                    if event == DONE:
                        continue
                    if asked.with_ids or b'"usage":{' in event or b'"error"' in event:
                        usage = self._read(event, outcome) or usage
            outcome.finished_s = self._pace.now_s()
            outcome.instance = response.headers.get(INSTANCE, "")
            if usage is None:
                raise ValueError("the stream ended without its usage")
            outcome.output_tokens = usage["completion_tokens"]

    def _read(self, event: bytes, outcome: Outcome) -> dict[str, Any] | None:
        values = json.loads(event)
        if "error" in values:
            raise ValueError(str(values["error"])[:200])
        for choice in values["choices"]:
            outcome.output_ids += choice.get("token_ids") or ()
        usage: dict[str, Any] | None = values.get("usage")
        return usage

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
            "Content-Type": "application/json",
            "x-request-id": f"r{request.request_id}",
            "x-task": request.task,
            "x-gsim-eos-at": str(request.prompt_tokens + job.output_tokens),
            **options.headers,
        }
        if request.slo_s < inf:
            headers["x-slo-ms"] = f"{request.slo_s * 1e3:.3f}"
        if request.session_id >= 0:
            headers["x-session-id"] = str(request.session_id)
        url = f"{options.url_of(job)}/v1/{'chat/completions' if options.plain else 'completions'}"
        return _Asked(url, json.dumps(body).encode(), headers, body["return_token_ids"])
