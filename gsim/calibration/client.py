"""Talk to an OpenAI-compatible server: stream completions of token-id prompts, and time every token.

Times are those of the running event loop (monotonic seconds). Nothing here assumes a certain server.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any

import httpx

from gsim.calibration.answer import Answer, Arriving, fault_said
from gsim.calibration.retries import AnswerError, ServerError, may_pass, retry_after_s
from gsim.core.errors import ConfigError

#: No line of a stream and no answer that is read whole is longer than this, in bytes: what is, is not read on.
MAX_LINE, MAX_BODY = 1 << 20, 16 << 20


def masked(url: str) -> str:
    """The address without the password that it may carry."""
    scheme, separator, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    user, at, host = place.rpartition("@")
    if not at:
        return url
    return f"{scheme}{separator}{user.partition(':')[0]}:***@{host}{slash}{path}"


class Client:
    """A bounded client: it never has more than ``max_concurrency`` sequences in flight."""

    def __init__(
        self,
        url: str,
        *,
        max_concurrency: int,
        timeout_s: float = 60.0,
        answer_s: float = 600.0,
        api_key: str = "",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        address = url.rstrip("/").removesuffix("/v1")
        self.url = masked(address)
        """For messages: without a password."""
        self.timeout_s = timeout_s
        self.answer_s = answer_s
        self._answered = False
        self._key = api_key
        self._room = max_concurrency
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=max_concurrency)
        # Nothing packed: what arrives is what is read. Silence is bounded here, whatever clock the transport has.
        headers = {"accept-encoding": "identity"} | ({"authorization": f"Bearer {api_key}"} if api_key else {})
        try:
            self._http = httpx.AsyncClient(
                base_url=address, timeout=None, limits=limits, transport=transport, headers=headers
            )
        except httpx.InvalidURL:
            raise ConfigError(f"url must be http://HOST:PORT, not {self.url}") from None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def get(self, path: str) -> httpx.Response:
        """GET a path (the status is the caller's to judge); raises ``ServerError`` when nobody answers, ``AnswerError``
        where the server has answered before."""
        try:
            async with asyncio.timeout(self.timeout_s), self._http.stream("GET", path) as response:
                answer = httpx.Response(response.status_code, content=await self._body(response, path))
        except TimeoutError:
            raise AnswerError(f"{self.url}{path}: no answer within {self.timeout_s:g} s") from None
        except httpx.HTTPError as error:
            if self._answered:  # it was there a moment ago
                raise AnswerError(f"{self.url}{path}: the server does not answer any more ({_name(error)})") from None
            raise ServerError(f"{self.url}{path}: no server answers there ({_name(error)})") from None
        self._answered = True
        return answer

    async def complete(
        self,
        model: str,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        on_token: Callable[[int, int], None] | None = None,
    ) -> Answer:
        """Stream exactly ``max_tokens`` tokens for each prompt.

        ``on_token(sequence, tokens so far)`` is called as they arrive. Raises ``ServerError`` on a 4xx answer and
        ``AnswerError`` on 429, 5xx, a stream that is cut, malformed or longer than asked, where no token comes for
        ``timeout_s``, and where the whole takes longer than ``answer_s``.
        """
        if len(prompts) > self._room:
            raise ConfigError(f"{len(prompts)} more sequences would load the server harder than max_concurrency allows")
        body = {
            "model": model,
            "prompt": [list(prompt) for prompt in prompts],
            "max_tokens": max_tokens,
            "min_tokens": max_tokens,
            "ignore_eos": True,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        self._room -= len(prompts)
        try:
            async with asyncio.timeout(self.answer_s) as whole:
                return await self._stream(body, len(prompts), max_tokens, on_token)
        except httpx.HTTPError as error:
            raise AnswerError(f"{self.url}: the answer was cut short ({_name(error)})") from None
        except TimeoutError:
            if whole.expired():
                raise AnswerError(f"{self.url}: the answer took longer than {self.answer_s:g} s") from None
            raise AnswerError(f"{self.url}: the server was silent for {self.timeout_s:g} s (no new token)") from None
        finally:
            self._room += len(prompts)

    async def complete_each(
        self,
        model: str,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        on_token: Callable[[int, int], None] | None = None,
    ) -> Answer:
        """As ``complete``, with a request of its own for each prompt, as clients send them; all at once."""

        def told(index: int) -> Callable[[int, int], None] | None:
            return None if on_token is None else lambda _, tokens: on_token(index, tokens)

        tasks = [
            asyncio.create_task(self.complete(model, [prompt], max_tokens, told(i))) for i, prompt in enumerate(prompts)
        ]
        try:
            answers = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return Answer(
            min(answer.sent_s for answer in answers),
            max(answer.done_s for answer in answers),
            [stream for answer in answers for stream in answer.streams],
            sum(answer.completion_tokens for answer in answers),
        )

    async def _stream(
        self, body: dict[str, Any], sequences: int, max_tokens: int, on_token: Callable[[int, int], None] | None
    ) -> Answer:
        clock = asyncio.get_running_loop().time
        arriving = Arriving(self.url, sequences, max_tokens, self._key, on_token)
        # Encoded before the clock starts: a long prompt takes the client longer to write than to send.
        content = json.dumps(body, separators=(",", ":")).encode()
        request = self._http.build_request(
            "POST", "/v1/completions", content=content, headers={"content-type": "application/json"}
        )
        sent_s = clock()
        async with asyncio.timeout(self.timeout_s):
            response = await self._http.send(request, stream=True)
        try:
            if response.status_code != 200:
                await self._refused(response)
            ended = False
            # Only a new token is a sign of life: lines without one (": ping") do not push the deadline on.
            async with asyncio.timeout(self.timeout_s) as silence:
                async for line in self._lines(response):
                    if not line.startswith("data:"):
                        continue
                    if line[5:].strip() == "[DONE]":
                        ended = True
                        break
                    if arriving.take(line[5:], clock()):
                        silence.reschedule(clock() + self.timeout_s)
        finally:
            await response.aclose()
        return arriving.whole(sent_s, clock(), ended)

    async def _lines(self, response: httpx.Response) -> AsyncIterator[str]:
        """The lines of a stream as they arrive; none is read beyond ``MAX_LINE``."""
        rest = b""
        async for part in self._parts(response):
            rest += part
            if b"\n" in part:
                *lines, rest = rest.split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace").rstrip("\r")
            if len(rest) > MAX_LINE:
                raise AnswerError(f"{self.url}: malformed answer: a line of more than {MAX_LINE} bytes")
        if rest:
            yield rest.decode(errors="replace")

    async def _body(self, response: httpx.Response, path: str) -> bytes:
        """A whole answer, of at most ``MAX_BODY``."""
        body = bytearray()
        async for part in self._parts(response):
            body += part
            if len(body) > MAX_BODY:
                raise ServerError(f"{self.url}{path}: an answer of more than {MAX_BODY} bytes")
        return bytes(body)

    async def _parts(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """What arrives, as it arrives. A little that is packed can stand for more than there is memory for."""
        packed = response.headers.get("content-encoding", "identity")
        if packed.strip().lower() not in ("", "identity"):
            raise ServerError(f"{self.url}: answers are packed ({packed[:80]}), though they were asked for as they are")
        async for part in response.aiter_raw():
            yield part

    async def _refused(self, response: httpx.Response) -> None:
        async with asyncio.timeout(self.timeout_s):
            text = (await self._body(response, "/v1/completions")).decode(errors="replace")
        answer = _json(text)
        reason = fault_said(text.strip() if answer is None else answer, self._key)
        message = f"{self.url}/v1/completions: HTTP {response.status_code}: {reason}"
        if not may_pass(response.status_code):
            raise ServerError(message)
        raise AnswerError(message, retry_after_s(response.headers.get("retry-after", "")))


def _json(text: str) -> Any:
    """The JSON value of a text; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _name(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
