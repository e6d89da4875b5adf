"""The API of one emulated server, over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from functools import partial
from typing import Any

from aiohttp import web

from gsim.emulate.answer import Answer, Writer
from gsim.emulate.faults import Faulty
from gsim.emulate.lengths import AnswerLengths
from gsim.emulate.served import Served
from gsim.emulate.stream import AnswerStream
from gsim.live.api import METRICS_HEADERS, STREAM_HEADERS, Handler, OpenAiApi, answered
from gsim.live.bodies import Asked, BodyError, chat_text, error_body, read_asked, read_json, too_long
from gsim.live.outlet import Outbox, Outlet
from gsim.live.vocabulary import Vocabulary
from gsim.live.waiter import Waiter

#: What this server cannot imitate, with the value that asks for nothing.
_NOT_IMITATED = {"n": 1, "best_of": 1, "echo": False, "logprobs": None, "prompt_logprobs": None, "top_logprobs": None}


class EmulatedServer(OpenAiApi):
    """Answers what vLLM's server answers, with an engine that is simulated behind it."""

    def __init__(
        self, served: Served, model: str, lengths: AnswerLengths, vocabulary: Vocabulary, max_body_bytes: int
    ) -> None:
        self.served = served
        self.model = model
        self.faults = Faulty(served)
        self._lengths = lengths
        self._vocabulary = vocabulary
        self._started_s = int(time.time())
        self._outbox = Outbox()
        super().__init__(max_body_bytes)
        self.app.add_routes([web.post("/tokenize", self._tokenize), web.post("/faults", self._fault)])

    # -------------------------------------------------------------------------------------------------- small answers
    async def _models(self, request: web.Request) -> web.Response:
        longest = self.served.limits.max_model_len
        card = {"id": self.model, "object": "model", "created": self._started_s, "owned_by": "gsim"}
        return web.json_response({"object": "list", "data": [card | {"root": self.model, "max_model_len": longest}]})

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, request: web.Request) -> web.Response:
        spec = self.served.spec
        return web.json_response({"version": "gsim-emulate", "profile": spec.profile.name, "instance": spec.name})

    async def _tokenize(self, request: web.Request) -> web.Response:
        values = read_json(await request.read())
        text = values.get("prompt")
        if isinstance(values.get("messages"), list):
            text = chat_text(values["messages"])
        if not isinstance(text, str):
            raise BodyError("prompt: Input should be a valid string", "prompt")
        ids = self._vocabulary.ids_of(text)
        longest = self.served.limits.max_model_len
        return web.json_response({"count": len(ids), "max_model_len": longest, "tokens": ids, "token_strs": None})

    async def _metrics(self, request: web.Request) -> web.Response:
        if self.faults.kind == "telemetry":
            raise web.HTTPInternalServerError(text="metrics cannot be read (a fault)")
        text = self.served.metrics.text(request.query.getall("name[]", []))
        if self.faults.kind == "lying":
            text = b"vllm:num_requests_running 0.0\nvllm:num_requests_waiting -7\nvllm:kv_cache_usage_perc nan\n"
        return web.Response(body=text, headers=METRICS_HEADERS)

    async def _fault(self, request: web.Request) -> web.Response:
        self.faults.begin(read_json(await request.read()))
        return web.json_response({"fault": self.faults.kind})

    # ---------------------------------------------------------------------------------------------------- generation
    async def _generate(self, request: web.Request, *, chat: bool) -> web.StreamResponse:
        values = read_json(await request.read())
        asked = read_asked(values, chat=chat)
        self._refuse(values, asked)
        prompts = [ids if isinstance(ids, list) else self._vocabulary.ids_of(ids) for ids in asked.prompts]
        most = min(self._room(len(ids), asked) for ids in prompts)
        outputs = [self._lengths.output_tokens(asked, request.headers, len(ids), most) for ids in prompts]
        waiter = Waiter()
        answers = self.served.submit(prompts, outputs, most, asked.priority, waiter)
        name = ("chatcmpl-" if chat else "cmpl-") + (request.headers.get("x-request-id") or uuid.uuid4().hex)
        writer = Writer(asked, name, int(time.time()), self.model)
        try:
            if asked.stream:
                return await self._stream(request, writer, asked, answers, waiter)
            return await self._whole(writer, answers, waiter)
        except (ConnectionError, asyncio.CancelledError):
            self.served.metrics.disconnected.inc()
            raise
        finally:
            self.served.abort(answers)
            for answer in answers:
                self.served.forget(answer)

    async def _whole(self, writer: Writer, answers: list[Answer], waiter: Waiter) -> web.Response:
        while not all(answer.done for answer in answers):
            await waiter.wait()
        await self.faults.pass_on(None)
        texts = [answer.take(self._vocabulary)[1] for answer in answers]
        return web.json_response(writer.whole(answers, texts))

    async def _stream(
        self, request: web.Request, writer: Writer, asked: Asked, answers: list[Answer], waiter: Waiter
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=STREAM_HEADERS)
        if self.faults.kind == "error_event":
            await response.prepare(request)
            told = json.dumps(error_body("EngineCore encountered an issue.", "InternalServerError", 500))
            await response.write(f"data: {told}\n\ndata: [DONE]\n\n".encode())
            return response
        await response.prepare(request)
        stream = AnswerStream(
            Outlet(self._outbox, request, response), writer, self._vocabulary, self.faults, asked.stream_interval
        )
        open_answers, began = list(answers), False
        while open_answers:
            await waiter.wait()
            stream.outlet.flush()
            await self.faults.pass_on(request)
            due = b"".join([stream.take(answer) for answer in open_answers])
            open_answers = [answer for answer in open_answers if not answer.done]
            if not open_answers:
                # One write, and so one packet, for the end and what comes before it.
                await response.write_eof(due + writer.closing(answers))
            elif due:
                await response.write(due)
            if due and not began:
                # The head is on its way: from now on tokens are sent when they are there.
                began = True
                for answer in open_answers:
                    answer.more = partial(stream.send_on, answer)
        return response

    # ------------------------------------------------------------------------------------------------------ refusals
    def _room(self, prompt_tokens: int, asked: Asked) -> int:
        """Tokens that may be generated after a prompt; raises ``BodyError`` as vLLM refuses."""
        longest = self.served.limits.max_model_len
        if prompt_tokens == 0:
            raise BodyError("The decoder prompt cannot be empty", "prompt")
        if prompt_tokens + (asked.max_tokens or 1) > longest:
            raise too_long(prompt_tokens, asked.max_tokens or 1, longest)
        return asked.max_tokens or longest - prompt_tokens

    def _refuse(self, values: dict[str, Any], asked: Asked) -> None:
        if asked.model is not None and asked.model != self.model:
            raise BodyError(f"The model `{asked.model}` does not exist.", "model", 404, "NotFoundError")
        if asked.priority != 0 and self.served.limits.policy != "priority":
            raise BodyError(f"Got priority {asked.priority} but Priority scheduling is not enabled.", "priority")
        for name, nothing in _NOT_IMITATED.items():
            # Other gateways write down what nobody asked for (logprobs: false).
            if values.get(name) not in (None, False, nothing):
                raise BodyError(f"{name}={values[name]!r} is not imitated by this server, which has no model", name)

    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/faults":
            return await answered(request, handler)
        self.faults.opened(request)
        try:
            return await self.faults.meet(request) or await answered(request, handler)
        except ConnectionError:
            # The connection is cut: there is nobody to tell.
            return web.Response(status=503)
        finally:
            self.faults.closed(request)
