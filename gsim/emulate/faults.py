"""Faults of a server on demand: it dies, is busy, hangs, slows down, or says what is not so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gsim.emulate.served import Served
from gsim.live.bodies import BodyError, error_body

#: What each kind does; ``none`` ends whatever there is.
KINDS = {
    "none": "all is well",
    "crash": "connections are cut, what runs is lost, nothing is answered",
    "unavailable": "new requests are answered with 503",
    "hang": "nothing more is sent, and connections stay open",
    "slow": "iterations take 1 / factor of their time",
    "error_event": "streams are answered with 200 and an error event",
    "telemetry": "/metrics answers with 500",
    "lying": "/metrics says what cannot be",
}


class Faulty:
    """The fault that a server has at present."""

    def __init__(self, served: Served) -> None:
        self.kind = "none"
        self._served = served
        self._over = asyncio.Event()
        self._open: dict[int, web.Request] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, values: Mapping[str, Any]) -> None:
        """``{kind, for_s, factor}``: a fault begins (and ends the one before it); raises ``BodyError``."""
        kind, for_s, factor = check_fault(values)
        self.end()
        self.kind = kind
        if kind == "crash":
            self._served.crash()
            for request in list(self._open.values()):
                _cut(request)
        elif kind == "slow":
            self._served.set_speed(factor)
        if for_s is not None:
            self._timer = asyncio.get_running_loop().call_later(for_s, self.end)

    def end(self) -> None:
        """All is well again; a server that crashed is back, empty."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.kind == "slow":
            self._served.set_speed(1.0)
        self.kind = "none"
        self._over.set()
        self._over = asyncio.Event()

    async def meet(self, request: web.Request) -> web.Response | None:
        """What happens to a request that comes in; its answer, where it is one already."""
        if self.kind == "crash":
            _cut(request)
            raise ConnectionResetError
        if self.kind == "unavailable" and request.method == "POST":
            body = error_body("The server is overloaded or not ready yet.", "ServiceUnavailableError", 503)
            return web.json_response(body, status=503, headers={"Retry-After": "1"})
        if self.kind == "hang":
            await self._over.wait()
        return None

    @property
    def holds_back(self) -> bool:
        """What is generated is not just sent: ``pass_on`` has to be asked."""
        return self.kind in ("hang", "crash")

    async def pass_on(self, request: web.Request | None) -> None:
        """What happens before more of an answer is sent."""
        if self.kind == "hang":
            await self._over.wait()
        if self.kind == "crash":
            if request is not None:
                _cut(request)
            raise ConnectionResetError

    def opened(self, request: web.Request) -> None:
        """A request is being answered."""
        self._open[id(request)] = request

    def closed(self, request: web.Request) -> None:
        """It is no longer."""
        self._open.pop(id(request), None)


def check_fault(values: Mapping[str, Any]) -> tuple[str, float | None, float]:
    """Kind, real seconds that it lasts (None: for good) and speed that is left; raises ``BodyError``."""
    kind, for_s, factor = values.get("kind"), values.get("for_s"), values.get("factor", 0.5)
    if kind not in KINDS:
        raise BodyError(f"kind must be one of {', '.join(KINDS)}; not {kind!r}", "kind")
    if for_s is not None and not (isinstance(for_s, int | float) and for_s > 0):
        raise BodyError(f"for_s must be seconds above 0, not {for_s!r}", "for_s")
    if not (isinstance(factor, int | float) and 0 < factor <= 1):
        raise BodyError(f"factor must be in (0, 1], not {factor!r}", "factor")
    return kind, for_s, factor


def _cut(request: web.Request) -> None:
    transport = request.transport
    if transport is not None:
        transport.abort()
