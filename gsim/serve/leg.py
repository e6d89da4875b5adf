"""A request's stay on one server, and how it may fail there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from gsim.core import EventKind, Job
from gsim.gateway.active import Active
from gsim.live.sse import Events
from gsim.serve.exchange import Exchange
from gsim.serve.frame import Frame

#: Told of a leg that failed: why, and whether the server may be gone.
Failed = Callable[["Leg", str, bool], None]
#: Told of a policy that failed when it was told of an event of a leg.
Broken = Callable[["Leg", EventKind, Exception], None]

#: A server may take so long to end the stream of an answer that is over; then its connection is closed.
_ENDING_S = 1.0


class ServerFailureError(Exception):
    """What a server answered is no answer. ``gone``: there may be no server at all."""

    def __init__(self, message: str, gone: bool = False) -> None:
        super().__init__(message)
        self.gone = gone


class Leg:
    """A request's stay on one server."""

    __slots__ = (
        *("closed", "events", "exchange", "first", "frame", "heard_s", "held", "index", "job", "silent", "task"),
        *("ticket", "timer", "tokens"),
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
        self.heard_s = time.monotonic()
        """When the server has sent something last."""
        self.timer: asyncio.TimerHandle | None = None
        """Looks whether the server says nothing."""
        self.silent = False
        """It was given up because the server said nothing."""
        self.events = Events()
        self.frame = Frame()

    def watch(self, silence_s: float) -> None:
        """Cancel its task when the server has sent nothing for so long.

        One timer that looks when something came last: setting it anew at every event would cost a fifth of an event.
        """
        left_s = self.heard_s + silence_s - time.monotonic()
        if self.closed or self.task is None or self.task.done():
            return
        if left_s > 0:
            self.timer = asyncio.get_running_loop().call_later(left_s, self.watch, silence_s)
        else:
            self.silent = True
            self.task.cancel()

    def unwatch(self) -> None:
        """Nothing will come any more: a timer would keep the request, prompt and all, until it rings."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def read_on(self) -> None:
        """The answer is over: read what is left of the stream, so that its connection can be used again."""
        if self.task is not None:
            asyncio.get_running_loop().call_later(_ENDING_S, self.task.cancel)
