"""What there is of an answer for its client, as bytes of its stream."""

from __future__ import annotations

import json

from gsim.live.outlet import Outlet
from gsim.serve.exchange import Exchange
from gsim.serve.writer import Writer


class Sender:
    """Takes from an exchange what its client has not got."""

    def __init__(self, exchange: Exchange, writer: Writer) -> None:
        self._exchange = exchange
        self._writer = writer
        self._interval = exchange.asked.stream_interval
        self._began = False
        """A first token was taken: like vLLM's, it waits for no others."""
        self._ended = False
        """The reason of the end was told."""

    def take(self) -> bytes:
        """The events that are due; none while fewer further tokens have come than the client wants at a time."""
        exchange = self._exchange
        if exchange.stays:
            raw, exchange.raw = exchange.raw, []
            return b"".join([b"data: " + event + b"\n\n" for event in raw])
        pieces = exchange.pieces
        last = exchange.done and exchange.error is None and not self._ended
        wanted = self._interval if self._began else 1
        due = exchange.done or wanted == 1 or sum(len(piece.ids) for piece in pieces) >= wanted
        if not last and not (pieces and due):
            return b""
        exchange.pieces, self._began, self._ended = [], True, last
        return self._writer.pieces(pieces, last=last)

    def send_on(self, outlet: Outlet) -> None:
        """Send what has come, or leave it to the coroutine: the end, and a client that is slow."""
        if self._exchange.done or not outlet.free:
            self._exchange.waiter.wake()
            return
        data = self.take()
        if data:
            outlet.send(data)

    def end(self) -> bytes:
        """What comes behind the last token."""
        error = self._exchange.error
        if error is not None:
            return f"data: {json.dumps(error[1])}\n\ndata: [DONE]\n\n".encode()
        return b"data: [DONE]\n\n" if self._exchange.stays else self._writer.closing()
