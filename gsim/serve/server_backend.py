"""A live server as the gateway's backend: one task per request that is there, and gauges as they were read last."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from gsim.core import EngineEvent, EventKind, Gauges, Job, Progress, StreamCount
from gsim.gateway.active import Active
from gsim.gateway.backend import Backend, Report
from gsim.live.pace import Pace
from gsim.live.sse import DONE, EventError
from gsim.live.wire import BrokenOffError, Reply, Wires
from gsim.serve.exchange import PARSED, Exchange
from gsim.serve.leg import Broken, Failed, Leg, ServerFailureError

#: Without the wrapping of json.loads, which looks for the encoding first.
_read = json.JSONDecoder().decode
_LONGEST_REFUSAL, _LONGEST_ANSWER = 1 << 16, 64 << 20


class ServerBackend(Backend):
    """Sends requests to a server, and tells the gateway of their first token and end."""

    def __init__(
        self,
        index: int,
        url: str,
        max_model_len: int,
        pace: Pace,
        report: Report,
        exchanges: dict[int, Exchange],
        failed: Failed,
        broken: Broken,
        silence_s: float,
    ) -> None:
        self.index = index
        self.url = url
        self.max_model_len = max_model_len
        self.read: tuple[Gauges, float] | None = None
        """What /metrics said last, and when."""
        self.stale_s = 1.0
        """Older gauges are none."""
        self._wires = Wires(url)
        self._pace = pace
        self._report = report
        self._exchanges = exchanges
        self._failed = failed
        self._broken = broken
        self._silence_s = silence_s
        self._here: dict[int, Leg] = {}
        self._changed: dict[int, Leg] = {}

    # ------------------------------------------------------------------------------------------ what the gateway asks
    def send(self, job: Job, now_s: float, kv_tokens: int, ticket: object) -> None:
        """See ``Backend``."""
        assert isinstance(ticket, Active)
        request_id = job.request.request_id
        exchange = self._exchanges[request_id]
        exchange.active, exchange.instance = ticket, self.index
        leg = Leg(self.index, job, ticket, exchange)
        self._here[request_id] = leg
        leg.begin(asyncio.get_running_loop().create_task(self._serve(leg)), self._silence_s)

    def abort(self, request_id: int, now_s: float) -> Progress:
        """See ``Backend``: the connection is closed, and the server drops the request."""
        leg = self._left(request_id)
        if leg is None:
            return Progress(0, 0)
        self._close(leg)
        if not leg.exchange.movable:
            # What it has answered cannot be gone on with: it begins anew, or ends.
            leg.exchange.begin_anew()
            return Progress(0, 0)
        tokens = leg.tokens
        return Progress(tokens, leg.job.request.prompt_tokens + tokens - 1 if tokens else 0)

    def sync(self, now_s: float) -> None:
        """Everything is told when it happens."""

    def forget(self, now_s: float) -> None:
        """See ``Backend``."""
        for leg in self._here.values():
            self._close(leg)
        self._here.clear()
        self._changed.clear()

    def gauges(self, now_s: float) -> Gauges | None:
        """What was read last, unless that is too long ago."""
        if self.read is None or now_s - self.read[1] > self.stale_s:
            return None
        return self.read[0]

    def progress(self, now_s: float) -> tuple[list[int], list[int]]:
        """See ``Backend``."""
        return list(self._here), [leg.tokens for leg in self._here.values()]

    def streams(self, now_s: float) -> tuple[int, list[StreamCount]]:
        """See ``Backend``: no clock, and every count that changed."""
        changed, self._changed = self._changed, {}
        return 0, [StreamCount(i, leg.tokens, False, leg.ticket) for i, leg in changed.items() if not leg.closed]

    def tells_cached(self) -> bool:
        """See ``Backend``. A first token comes without its usage."""
        return False

    def can_leave(self, request_id: int) -> bool:
        """See ``Backend``."""
        leg = self._here.get(request_id)
        return leg is not None and leg.exchange.movable

    def close(self) -> None:
        """End all connections to the server."""
        self._wires.close()

    def legs(self) -> list[Leg]:
        """Who is here."""
        return list(self._here.values())

    # -------------------------------------------------------------------------------------------- what the server says
    def _left(self, request_id: int) -> Leg | None:
        """It is not here any more; where nobody asks for streams, nobody else would forget that it changed."""
        self._changed.pop(request_id, None)
        return self._here.pop(request_id, None)

    def _close(self, leg: Leg) -> None:
        leg.closed = True
        leg.unwatch()
        if leg.task is not None and leg.task is not asyncio.current_task():
            leg.task.cancel()

    async def _serve(self, leg: Leg) -> None:
        try:
            await self._ask(leg)
        except ServerFailureError as error:
            self._fail(leg, error)
        except asyncio.CancelledError:
            if not leg.silent:
                raise
            self._fail(leg, ServerFailureError("silent for too long"))
        except (BrokenOffError, EventError) as error:
            self._fail(leg, ServerFailureError(f"the answer broke off ({error})"))
        except OSError as error:
            self._fail(leg, ServerFailureError(f"no connection ({type(error).__name__})", gone=True))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            self._fail(leg, ServerFailureError(f"what was answered cannot be read ({type(error).__name__})"))
        finally:
            leg.unwatch()

    def _fail(self, leg: Leg, failure: ServerFailureError) -> None:
        if not leg.closed:
            self._pace.do(self._failed, leg, failure)

    async def _ask(self, leg: Leg) -> None:
        exchange = leg.exchange
        path, body = exchange.leg(self.max_model_len)
        reply = await self._wires.post(path, json.dumps(body).encode(), exchange.headers)
        try:
            leg.heard()
            if reply.status != 200:
                await self._refused(leg, reply)
            elif not exchange.stays:
                await self._stream(leg, reply, self._event)
            elif exchange.asked.stream:
                await self._stream(leg, reply, self._relayed)
            else:
                await self._whole(leg, reply)
        finally:
            reply.close()

    async def _refused(self, leg: Leg, reply: Reply) -> None:
        status = reply.status
        if status < 400 or status in (408, 429) or status >= 500:
            raise ServerFailureError(f"HTTP {status}", busy=status if status in (429, 503) else 0)
        text = (await reply.read(_LONGEST_REFUSAL)).decode("utf-8", "replace")
        try:
            told: Any = json.loads(text)
        except ValueError:
            told = {"error": {"message": text[:500], "type": "BadRequestError", "param": None, "code": status}}
        leg.exchange.fail(status, told)
        self._over(leg, EventKind.REJECTED)

    async def _stream(self, leg: Leg, reply: Reply, tell: Callable[[Leg, bytes], None]) -> None:
        await reply.pass_to(partial(self._feed, leg, tell))
        if not leg.closed:
            raise ServerFailureError("the stream ended before the answer did")

    def _feed(self, leg: Leg, tell: Callable[[Leg, bytes], None], data: bytes) -> None:
        leg.heard()
        for event in leg.events.feed(data):
            # What comes behind the end is nobody's.
            if leg.closed:
                return
            tell(leg, event)

    def _event(self, leg: Leg, event: bytes) -> None:
        """One event of a request whose tokens are followed."""
        if leg.frame.known:
            told = leg.frame.read(event)
            if told is not None:
                self._tokens(leg, told.ids, told.text, None)
                return
        if event != DONE:
            self._chunk(leg, _read(event.decode()), event)

    def _chunk(self, leg: Leg, values: dict[str, Any], event: bytes) -> None:
        if "error" in values:
            self._error(leg, values)
            return
        exchange = leg.exchange
        usage = values.get("usage")
        if usage and exchange.prompt_tokens == 0:
            exchange.prompt_tokens = _number(usage, "prompt_tokens", 0)
        if not values["choices"]:
            return
        choice = values["choices"][0]
        prompt = choice.get("prompt_token_ids") or values.get("prompt_token_ids")
        if prompt and exchange.prompt_ids is None:
            exchange.prompt_ids = prompt
        delta = choice.get("delta")
        text = choice.get("text") if delta is None else delta.get("content")
        if delta and (delta.get("reasoning_content") or delta.get("reasoning") or delta.get("tool_calls")):
            # From the beginning once more, as a request that is passed on as it is.
            exchange.stays = PARSED
            raise ServerFailureError(PARSED)
        ids = choice.get("token_ids")
        if ids is None and text:
            raise ServerFailureError("the server returns no token ids: set moves=none")
        reason = choice.get("finish_reason")
        _refuse_given_up([choice])
        if ids or reason:
            if text and not (leg.frame.known or reason or usage or prompt):
                leg.frame.learn(event, values, text, ids)
            self._tokens(leg, ids or [], text or "", reason)

    def _error(self, leg: Leg, values: dict[str, Any]) -> None:
        """HTTP 200, and then an error: the client's own (an id that the model has not), or the server's."""
        code = values["error"].get("code") if isinstance(values["error"], dict) else None
        if not isinstance(code, int) or not 400 <= code < 500:
            raise ServerFailureError(f"error event: {str(values['error'])[:200]}")
        leg.exchange.fail(code, values)
        self._over(leg, EventKind.REJECTED)

    def _tokens(self, leg: Leg, ids: list[int], text: str, reason: str | None) -> None:
        leg.held += ids
        exchange = leg.exchange
        if not leg.first and leg.held:
            leg.first = True
            self._tell(leg, EventKind.FIRST_TOKEN, 1)
            if leg.closed:
                return
        most, known = exchange.asked.max_tokens, len(exchange.output_ids)
        if reason or (most is not None and known + len(leg.held) >= most and text):
            self._pace.do(self._last_tokens, leg, text, reason or "length")
        elif leg.held and text:
            # Without text: part of a character. Whoever goes on elsewhere begins before it, so the text stays whole.
            self._given(leg, text, last=False)

    def _last_tokens(self, leg: Leg, text: str, reason: str) -> None:
        # What was due before may have moved the request: then another server generates these. What it has all tokens
        # of cannot be moved, so they are counted at the moment at which it ends.
        if leg.closed:
            return
        if leg.held:
            self._given(leg, text, last=True)
        leg.exchange.reason = reason
        self._over_now(leg, EventKind.FINISHED)

    def _given(self, leg: Leg, text: str, *, last: bool) -> None:
        leg.tokens += len(leg.held)
        leg.exchange.add(leg.held, text, last=last)
        leg.held = []
        self._changed[leg.job.request.request_id] = leg

    def _relayed(self, leg: Leg, event: bytes) -> None:
        """One event of a request that stays: it is passed on as it is."""
        exchange = leg.exchange
        if event == DONE:
            self._over(leg, EventKind.FINISHED)
            return
        told = leg.frame.read(event) if leg.frame.known else None
        if told is not None:
            self._streamed(leg, leg.tokens + (len(told.ids) or 1))
        else:
            values = _read(event.decode())
            if "error" in values:
                self._error(leg, values)
                return
            _refuse_given_up(values.get("choices") or [])
            self._count(leg, values)
            self._learn(leg, event, values)
        exchange.raw.append(event)
        exchange.news()

    def _learn(self, leg: Leg, event: bytes, values: dict[str, Any]) -> None:
        """The usual event of a request that stays has one choice that goes on, and no count of tokens."""
        choices: list[Any] = values.get("choices") or []
        if leg.frame.known or len(choices) != 1 or values.get("usage") or choices[0].get("finish_reason"):
            return
        text = (choices[0].get("delta") or {}).get("content") or choices[0].get("text")
        if isinstance(text, str):
            leg.frame.learn(event, values, text, choices[0].get("token_ids"))

    def _count(self, leg: Leg, values: dict[str, Any]) -> None:
        usage = values.get("usage") or {}
        fresh = sum(len(choice.get("token_ids") or (0,)) for choice in values.get("choices", ()))
        leg.exchange.prompt_tokens = _number(usage, "prompt_tokens", leg.exchange.prompt_tokens)
        self._streamed(leg, _number(usage, "completion_tokens", leg.tokens + fresh))

    def _streamed(self, leg: Leg, tokens: int) -> None:
        leg.tokens = tokens
        self._changed[leg.job.request.request_id] = leg
        if not leg.first:
            leg.first = True
            self._tell(leg, EventKind.FIRST_TOKEN, 1)

    async def _whole(self, leg: Leg, reply: Reply) -> None:
        values = _read((await reply.read(_LONGEST_ANSWER)).decode())
        _refuse_given_up(values.get("choices") or [])
        leg.exchange.whole = values
        usage = values.get("usage") or {}
        leg.exchange.prompt_tokens = _number(usage, "prompt_tokens", leg.exchange.prompt_tokens)
        leg.tokens = _number(usage, "completion_tokens", 0)
        self._over(leg, EventKind.FINISHED)

    def _tell(self, leg: Leg, kind: EventKind, tokens: int) -> None:
        self._pace.do(self._report_now, leg, kind, tokens)

    def _report_now(self, leg: Leg, kind: EventKind, tokens: int) -> None:
        # What was due before may have taken the request away.
        if leg.closed:
            return
        now_s, request_id = self._pace.clock.now, leg.job.request.request_id
        try:
            self._report(self.index, EngineEvent(now_s, kind, request_id, tokens, 0, leg.ticket))
        except Exception as error:  # a policy's, which is no reason to stop serving
            self._broken(leg, kind, error)

    def _over(self, leg: Leg, kind: EventKind) -> None:
        self._pace.do(self._over_now, leg, kind)

    def _over_now(self, leg: Leg, kind: EventKind) -> None:
        if leg.closed:
            return
        if not leg.first and kind is EventKind.FINISHED:
            # An answer that came whole, or without a token: the gateway knows none that ends before it begins.
            leg.first = True
            self._report_now(leg, EventKind.FIRST_TOKEN, 0)
        self._left(leg.job.request.request_id)
        leg.exchange.end()
        self._report_now(leg, kind, max(leg.tokens, 1))
        leg.closed = True
        leg.read_on()


def _refuse_given_up(choices: list[dict[str, Any]]) -> None:
    """Raise ``ServerFailureError`` for what the server itself has given up, which vLLM calls ``abort``."""
    if any(choice.get("finish_reason") == "abort" for choice in choices):
        raise ServerFailureError("the server has taken the request out")


def _number(usage: dict[str, Any], name: str, otherwise: int) -> int:
    """A count of tokens as a server says it, or else where that is none."""
    said = usage.get(name)
    return said if type(said) is int and said >= 0 else otherwise
