"""Streamed answers written at once, past the coroutines that began them."""

from __future__ import annotations

import asyncio

from aiohttp import web

from gsim.live.rounds import RoundLoop

#: With more than this on its way a client is slow: what comes meanwhile is gathered, not written.
_FULL_BYTES = 1 << 16


class Outbox:
    """Keeps what is written in one round of the event loop and writes it at the round's end, one behind another.

    The other side is woken once and then finds work, instead of falling asleep between any two writes.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due: list[tuple[asyncio.WriteTransport, bytes]] = []
        self._called = isinstance(self._loop, RoundLoop)
        """The loop says when a round is over; else another round has to be asked for."""
        if isinstance(self._loop, RoundLoop):
            self._loop.at_the_end(self.flush)

    def add(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Write ``data`` when this round is over."""
        if not (self._due or self._called):
            self._loop.call_soon(self.flush)
        self._due.append((transport, data))

    def flush(self) -> bool:
        """Write it now; whether a connection turned out to be lost."""
        lost = False
        if self._due:
            due, self._due = self._due, []
            for transport, data in due:
                if not transport.is_closing():
                    transport.write(data)
                    lost = lost or transport.is_closing()
        return lost


class Outlet:
    """The body of one answer whose head was sent. Who writes otherwise (the coroutine) calls ``flush`` before."""

    __slots__ = ("_chunked", "_outbox", "_transport")

    def __init__(self, outbox: Outbox, request: web.Request, response: web.StreamResponse) -> None:
        self._outbox = outbox
        self._transport = request.transport
        # An HTTP/1.0 client knows no chunks: its answer ends with the connection.
        self._chunked = response.headers.get("Transfer-Encoding") == "chunked"

    @property
    def free(self) -> bool:
        """The client keeps up with what it is sent."""
        transport = self._transport
        return transport is not None and transport.get_write_buffer_size() < _FULL_BYTES

    def send(self, data: bytes) -> None:
        """Write a part of the body, which is not empty."""
        if self._transport is not None:
            self._outbox.add(self._transport, b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def flush(self) -> None:
        """Write now what was sent."""
        self._outbox.flush()
