"""The OpenAI API as servers here answer it over HTTP: where its routes lead, and refusals in vLLM's words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from aiohttp import web

from gsim.live.bodies import BodyError, error_body

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: Headers of an answer that is streamed, and of metrics.
STREAM_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
METRICS_HEADERS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


class OpenAiApi(ABC):
    """A web application with the routes that every client looks for; a server says what is behind them."""

    def __init__(self, max_body_bytes: int) -> None:
        self.app = web.Application(client_max_size=max_body_bytes, middlewares=[self._guard])
        self.app.add_routes(
            [
                web.post("/v1/completions", self._completions),
                web.post("/v1/chat/completions", self._chat),
                web.get("/v1/models", self._models),
                web.get("/health", self._health),
                web.get("/version", self._version),
                web.get("/metrics", self._metrics),
            ]
        )

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, chat=False)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, chat=True)

    @abstractmethod
    async def _generate(self, request: web.Request, *, chat: bool) -> web.StreamResponse: ...

    @abstractmethod
    async def _models(self, request: web.Request) -> web.Response: ...

    @abstractmethod
    async def _health(self, request: web.Request) -> web.Response: ...

    @abstractmethod
    async def _version(self, request: web.Request) -> web.Response: ...

    @abstractmethod
    async def _metrics(self, request: web.Request) -> web.Response: ...

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        return await self._guarded(request, handler)

    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Around every request; a server may do more here."""
        return await answered(request, handler)


async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What the handler answers; an error in the body is answered as vLLM does."""
    try:
        return await handler(request)
    except BodyError as error:
        body = error_body(error.message, error.kind, error.status, error.param)
        return web.json_response(body, status=error.status)
    except web.HTTPRequestEntityTooLarge:
        return web.json_response(error_body("The request is too large.", "BadRequestError", 413), status=413)
