"""A request's stay on one server, and how it may fail there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gsim.core import EventKind, Job
from gsim.gateway.active import Active
from gsim.live.silence import Silence
from gsim.live.sse import Events
from gsim.serve.exchange import Exchange
from gsim.serve.frame import Frame

#: Told of a leg that failed, and how.
Failed = Callable[["Leg", "ServerFailureError"], None]
#: Told of a policy that failed when it was told of an event of a leg.
Broken = Callable[["Leg", EventKind, Exception], None]

#: A server may take so long to end the stream of an answer that is over; then its connection is closed.
_ENDING_S = 1.0


class ServerFailureError(Exception):
    """What a server answered is no answer."""

    def __init__(self, message: str, *, gone: bool = False, busy: int = 0) -> None:
        super().__init__(message)
        self.gone = gone
        """There may be no server at all."""
        self.busy = busy
        """Status by which it says that it takes no more requests for now; 0: it does not say so."""


class Leg:
    """A request's stay on one server."""

    __slots__ = (
        *("closed", "events", "exchange", "first", "frame", "held", "index", "job", "silence", "task"),
        *("ticket", "tokens"),
    )

    def __init__(self, index: int, job: Job, ticket: Active, exchange: Exchange) -> None:
        self.index = index
        self.job = job
        self.ticket = ticket
        self.exchange = exchange
        self.tokens = 0
        """Generated here and given to the client."""
        self.held: list[int] = []
        """Generated here and not given on: their text is not complete (part of a character)."""
        self.first = False
        self.closed = False
        self.task: asyncio.Task[None] | None = None
        self.silence: Silence | None = None
        self.events = Events()
        self.frame = Frame()

    def begin(self, task: asyncio.Task[None], silence_s: float) -> None:
        """It is served by a task, which is cancelled when the server has sent nothing for so long."""
        self.task = task
        self.silence = Silence(task, silence_s)

    def heard(self) -> None:
        """The server has sent something."""
        if self.silence is not None:
            self.silence.heard()

    @property
    def silent(self) -> bool:
        """It was given up because the server said nothing."""
        return self.silence is not None and self.silence.too_long

    def unwatch(self) -> None:
        """Nothing will come any more."""
        if self.silence is not None:
            self.silence.close()

    def read_on(self) -> None:
        """The answer is over: read what is left of the stream, so that its connection can be used again."""
        if self.task is not None:
            asyncio.get_running_loop().call_later(_ENDING_S, self.task.cancel)
