"""Bytes of a streamed answer as soon as they are there, without a coroutine that is woken for each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp


class Tap(asyncio.Protocol):
    """Stands between a connection and its HTTP client, and says when the client may have got something."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.on_data: Callable[[], None] | None = None
        """Called after everything that came in."""

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        self._inner.data_received(data)
        if self.on_data is not None:
            self.on_data()

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._inner.connection_lost(exc)

    def eof_received(self) -> bool | None:
        """See ``asyncio.Protocol``."""
        kept: bool | None = self._inner.eof_received()
        return kept

    def pause_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._inner.resume_writing()


class _Reading:
    """One answer that is being read."""

    def __init__(self, content: aiohttp.StreamReader, take: Callable[[bytes], None]) -> None:
        self._content = content
        self._take = take
        self.failed: BaseException | None = None

    def read(self) -> None:
        """Hand on what has come."""
        content = self._content
        if self.failed is None:
            self.failed = content.exception()
        if self.failed is not None:
            return
        data = content.read_nowait(-1)
        if data:
            try:
                self._take(data)
            except Exception as error:
                self.failed = error
                content.set_exception(error)


async def read_through(response: aiohttp.ClientResponse, take: Callable[[bytes], None]) -> None:
    """Give all of an answer's body to ``take``, as it comes; raises what broke it off, or what ``take`` raises."""
    reading = _Reading(response.content, take)
    # Where all of it has come already there is no connection any more.
    connection = response.connection
    tap = _tapped(connection.transport) if connection is not None else None
    if tap is not None:
        tap.on_data = reading.read
    try:
        reading.read()
        if reading.failed is None:
            await response.content.wait_eof()
            reading.read()
        if reading.failed is not None:
            raise reading.failed
    finally:
        if tap is not None and tap.on_data == reading.read:
            tap.on_data = None


def _tapped(transport: Any) -> Tap | None:
    if transport is None:
        return None
    protocol = transport.get_protocol()
    if not isinstance(protocol, Tap):
        protocol = Tap(protocol)
        transport.set_protocol(protocol)
    return protocol
