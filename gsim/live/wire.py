"""HTTP to one server with little between its bytes and whoever wants them.

A stream with an event per token is many small reads. aiohttp's client keeps what it reads for a coroutine that has to
be woken, and asks its parser once more whenever that is taken; here every piece of a body is handed on as it comes.
``httptools`` (the parser of uvicorn) reads the protocol; this keeps connections and says what became of an answer.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from typing import cast
from urllib.parse import urlsplit

import httptools

#: A connection that has been idle for so long is not used again.
_IDLE_S = 60.0
_CONNECT_S = 5.0
#: A connection that had been idle and ends so soon after a request was closed before the server knew of the request.
_CROSSED_S = 0.1
#: Lower statuses (100 Continue, 103 Early Hints) are said before the answer, and are none.
_FINAL = 200

#: Without the last a server may compress as it likes.
_COMMON = ("Content-Type: application/json", "Accept-Encoding: identity")

Take = Callable[[bytes], None]


class BrokenOffError(ConnectionError):
    """A connection ended before its answer did, or what came over it is no HTTP."""


class Reply:
    """An answer that comes: first its status, then its body, piece by piece."""

    __slots__ = ("_begun", "_ended", "_kept", "_over", "_take", "_wire", "heard", "status")

    def __init__(self, wire: Wire) -> None:
        loop = asyncio.get_running_loop()
        self.status = 0
        self.heard = False
        """Something has come of it, whatever it was."""
        self._wire = wire
        self._kept: list[bytes] = []
        self._take: Take = self._kept.append
        self._begun: asyncio.Future[None] = loop.create_future()
        self._over: asyncio.Future[None] = loop.create_future()
        self._ended = False

    async def pass_to(self, take: Take) -> None:
        """Give all of the body to ``take``, as it comes; raises ``BrokenOffError``, or what ``take`` raises."""
        for piece in self._kept:
            take(piece)
        self._take = take
        await self._over

    async def read(self, most: int) -> bytes:
        """All of the body, or as much of it as ``most`` bytes; raises ``BrokenOffError``."""
        kept = bytearray()

        def keep(piece: bytes) -> None:
            if len(kept) < most:
                kept.extend(piece)

        await self.pass_to(keep)
        return bytes(kept[:most])

    def close(self) -> None:
        """Nobody wants the rest: where there is one its connection is closed, which tells the server so."""
        if not self._ended:
            self._ended = True
            self._wire.cut()

    # -------------------------------------------------------------------------------------- told by the connection
    def begin(self, status: int) -> None:
        """Its status has come."""
        self.status = status
        if not self._begun.done():
            self._begun.set_result(None)

    def give(self, piece: bytes) -> None:
        """A piece of its body has come."""
        if not self._ended:
            try:
                self._take(piece)
            except Exception as error:
                self.end(error)
                self._wire.cut()

    def end(self, error: Exception | None) -> None:
        """It is whole, or ``error`` has broken it off."""
        self._ended = True
        for future in (self._begun, self._over):
            if not future.done():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)
                    future.exception()  # whoever waits is told; that nobody waits is no news

    async def begun(self) -> None:
        """Until its status has come; raises ``BrokenOffError``."""
        await self._begun


class Wire(asyncio.Protocol):
    """A connection to a server, and the answer that is under way on it."""

    def __init__(self, wires: Wires) -> None:
        self.answers = 0
        """How many it has brought."""
        self.idle_s = 0.0
        """Since when it has none, on the monotonic clock."""
        self._wires = wires
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._until_closed = True
        """The body that comes has no length: it ends with the connection."""

    @property
    def open(self) -> bool:
        """It can be written to."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, data: bytes) -> Reply:
        """Send a request, when none is under way."""
        assert self._transport is not None
        self._reply = reply = Reply(self)
        self._until_closed = True
        self._transport.write(data)
        return reply

    def cut(self) -> None:
        """Close it now."""
        if self._transport is not None:
            self._transport.abort()

    # ----------------------------------------------------------------------------------------- see asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        if self._reply is None:
            # Nothing was asked: whatever this is, it is no answer to the next request.
            self.cut()
            return
        self._reply.heard = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._over(BrokenOffError(f"no HTTP ({error})"))
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = None
        self._wires.lost(self)
        reply = self._reply
        ended = exc is None and reply is not None and reply.status and self._until_closed
        self._over(None if ended else BrokenOffError("the connection was closed"))

    # ---------------------------------------------------------------------------------------- told by the parser
    def on_message_begin(self) -> None:
        """An answer comes."""
        if self._reply is None:
            # Behind the one that was asked for: its rest would pass for the answer to the next request.
            self.cut()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has come."""
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._until_closed = False

    def on_headers_complete(self) -> None:
        """The head has come."""
        status = self._parser.get_status_code()
        if self._reply is not None and status >= _FINAL:
            self._reply.begin(status)

    def on_body(self, piece: bytes) -> None:
        """A piece of the body has come."""
        if self._reply is not None:
            self._reply.give(piece)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._parser.get_status_code() < _FINAL:
            self._until_closed = True
            return
        self.answers += 1
        kept = self._parser.should_keep_alive()
        self._over(None)
        if kept and self.open:
            self._wires.free(self)
        else:
            self.cut()

    def _over(self, error: Exception | None) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.end(error)


class Wires:
    """Connections to one server, used again and again."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._path = parts.path.rstrip("/")
        self._named = parts.netloc.rpartition("@")[2]
        self._idle: dict[Wire, None] = {}
        """In the order in which they became so."""
        self._all: set[Wire] = set()

    async def open(self, connections: int) -> None:
        """Connect so many times before there is anything to send; raises ``OSError``, ``TimeoutError``."""
        for wire in await asyncio.gather(*(self._connected() for _ in range(connections))):
            self.free(wire)

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send JSON, and wait for the head of the answer; raises ``OSError``, ``TimeoutError``, ``BrokenOffError``."""
        lines = [f"POST {self._path}{path} HTTP/1.1", f"Host: {self._named}", *_COMMON]
        lines += [f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in headers.items()), "\r\n"]
        data = "\r\n".join(lines).encode("utf-8", "surrogateescape") + body
        while True:
            wire = self._known() or await self._connected()
            reply = wire.ask(data)
            asked_s = time.monotonic()
            try:
                await reply.begun()
                return reply
            except BrokenOffError:
                # Later, the server may have worked on it: that is a failure, for whoever asks to count and make up.
                crossed = wire.answers > 0 and time.monotonic() - asked_s < _CROSSED_S
                if reply.heard or not crossed:
                    raise
            except asyncio.CancelledError:
                reply.close()
                raise

    def close(self) -> None:
        """Close all of them."""
        for wire in list(self._all):
            wire.cut()

    def free(self, wire: Wire) -> None:
        """A connection can be used again."""
        wire.idle_s = now_s = time.monotonic()
        self._idle[wire] = None
        while now_s - (oldest := next(iter(self._idle))).idle_s > _IDLE_S:
            del self._idle[oldest]
            oldest.cut()

    def lost(self, wire: Wire) -> None:
        """A connection is closed."""
        self._all.discard(wire)
        self._idle.pop(wire, None)

    def _known(self) -> Wire | None:
        # The newest first: what a short load needs stays warm, the others grow old.
        while self._idle:
            wire, _ = self._idle.popitem()
            if wire.open:
                return wire
        return None

    async def _connected(self) -> Wire:
        async with asyncio.timeout(_CONNECT_S):
            loop = asyncio.get_running_loop()
            _, wire = await loop.create_connection(lambda: Wire(self), self._host, self._port, ssl=self._tls)
        self._all.add(wire)
        return wire
