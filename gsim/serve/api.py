"""The gateway's API over HTTP."""

from __future__ import annotations

import time
import uuid
from functools import partial
from math import inf
from typing import Any

from aiohttp import web

from gsim.live.api import METRICS_HEADERS, STREAM_HEADERS, OpenAiApi
from gsim.live.bodies import BodyError, error_body, read_asked, read_json
from gsim.live.outlet import Outbox, Outlet
from gsim.serve.exchange import Exchange
from gsim.serve.sender import Sender
from gsim.serve.service import Service
from gsim.serve.writer import Writer

#: Headers of the client that servers get; others are the connection's own.
_PASSED_ON = ("authorization", "x-request-id", "traceparent", "tracestate", "x-task", "x-session-id")
SLO, TASK, SESSION = "x-slo-ms", "x-task", "x-session-id"
_STREAM = STREAM_HEADERS | {"X-Accel-Buffering": "no"}


class Api(OpenAiApi):
    """What clients may ask of a gateway."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._model = service.servers[0].model
        self._outbox = Outbox()
        super().__init__(service.config.max_body_bytes)

    async def _models(self, request: web.Request) -> web.Response:
        longest = max(server.max_model_len for server in self.service.servers)
        card = {"id": self._model, "object": "model", "created": 0, "owned_by": "gsim", "max_model_len": longest}
        return web.json_response({"object": "list", "data": [card]})

    async def _health(self, request: web.Request) -> web.Response:
        up = bool(self.service.gateway.view.available.any())
        return web.Response(status=200 if up else 503)

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "gsim-serve"})

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self.service.metrics.text(), headers=METRICS_HEADERS)

    async def _generate(self, request: web.Request, *, chat: bool) -> web.StreamResponse:
        values = read_json(await request.read())
        service = self.service
        if len(service.exchanges) >= service.config.max_requests:
            return _refusal(429, error_body("too many requests are under way", "RateLimitError", 429))
        asked = read_asked(values, chat=chat)
        name = request.headers.get("x-request-id") or uuid.uuid4().hex
        headers = {key: request.headers[key] for key in _PASSED_ON if key in request.headers}
        headers |= {key: value for key, value in request.headers.items() if key.lower().startswith("x-gsim-")}
        headers["x-request-id"] = name
        exchange = Exchange(asked, values, headers, name, service.config.moves, service.parsed)
        task = _text(request, values, TASK, "task") or "default"
        session, slo_s = _text(request, values, SESSION, "session_id"), self._slo_s(request, values)
        number = service.submit(exchange, slo_s, task, session)
        try:
            # What had come may be taken back before anybody was told of it: then it comes from another server.
            while not (exchange.done or exchange.pieces or exchange.raw):
                await exchange.waiter.wait()
            if exchange.error is not None and not exchange.pieces and not exchange.raw:
                return _refusal(*exchange.error)
            writer = Writer(exchange, ("chatcmpl-" if chat else "cmpl-") + name, int(time.time()), self._model)
            if asked.stream:
                return await self._stream(request, exchange, writer)
            return await self._whole(exchange, writer)
        finally:
            service.withdraw(number)

    async def _stream(self, request: web.Request, exchange: Exchange, writer: Writer) -> web.StreamResponse:
        response = web.StreamResponse(headers=_STREAM | self._told(exchange))
        await response.prepare(request)
        exchange.told = True
        sender = Sender(exchange, writer)
        # The head goes with the first of the answer, in one packet.
        first = sender.take()
        while not first and not exchange.done:
            await exchange.waiter.wait()
            first = sender.take()
        if first:
            await response.write(first)
        outlet = Outlet(self._outbox, request, response)
        exchange.news = partial(sender.send_on, outlet)
        while not exchange.done:
            await exchange.waiter.wait()
            outlet.flush()
            # Whoever reads slowly gets larger events: what comes meanwhile is gathered.
            more = sender.take()
            if more:
                await response.write(more)
        outlet.flush()
        await response.write_eof(sender.take() + sender.end())
        return response

    async def _whole(self, exchange: Exchange, writer: Writer) -> web.Response:
        while not exchange.done:
            await exchange.waiter.wait()
        if exchange.error is not None:
            return _refusal(*exchange.error)
        if exchange.stays:
            return web.json_response(exchange.whole, headers=self._told(exchange))
        return web.json_response(writer.whole(exchange.pieces), headers=self._told(exchange))

    def _told(self, exchange: Exchange) -> dict[str, str]:
        """Where it is, and whether it may move."""
        stays = f"no: {exchange.stays}" if exchange.stays else "yes"
        return {"x-gsim-instance": self.service.servers[exchange.instance].name, "x-gsim-movable": stays}

    def _slo_s(self, request: web.Request, values: dict[str, Any]) -> float:
        given: Any = request.headers.get(SLO, values.get("slo_ms"))
        if given is None:
            default = self.service.config.slo_ms
            return inf if default is None else default / 1e3
        try:
            slo_ms = float(given)
        except (TypeError, ValueError):
            slo_ms = 0.0
        if not 0 < slo_ms < 1e12:
            raise BodyError(f"slo_ms must be milliseconds above 0, not {given!r}"[:200], "slo_ms")
        return slo_ms / 1e3


def _refusal(status: int, body: Any) -> web.Response:
    # Clients that are told when to come again do not come at once.
    return web.json_response(body, status=status, headers={"Retry-After": "1"} if status in (429, 503) else {})


def _text(request: web.Request, values: dict[str, Any], header: str, name: str) -> str:
    given: Any = request.headers.get(header, values.get(name, ""))
    if not isinstance(given, str | int) or isinstance(given, bool) or len(str(given)) > 200:
        raise BodyError(f"{name} must be a text of at most 200 characters", name)
    return str(given)
