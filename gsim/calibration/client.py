"""Talk to an OpenAI-compatible server: stream completions of token-id prompts, and time every token.

Times are those of the running event loop (monotonic seconds). Nothing here assumes a certain server.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, TypeVar

import httpx

from gsim.core.errors import ConfigError, InputError

T = TypeVar("T")

#: No line of a stream and no answer that is read whole is longer than this, in bytes: what is, is not read on.
MAX_LINE, MAX_BODY = 1 << 20, 16 << 20
#: Longest wait that a server's ``Retry-After`` is granted, in seconds.
MAX_RETRY_AFTER_S = 60.0


class ServerError(InputError):
    """A live server that cannot be measured: it is down, refuses, or is not what was asked for."""


class AnswerError(ServerError):
    """One answer failed (429, 5xx, silence, a cut or malformed stream): another try may succeed.

    ``retry_after_s`` is how long the server asked to wait before it (0: it did not say).
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def masked(url: str) -> str:
    """The address without the password that it may carry."""
    scheme, separator, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    user, at, host = place.rpartition("@")
    if not at:
        return url
    return f"{scheme}{separator}{user.partition(':')[0]}:***@{host}{slash}{path}"


async def persistent(attempt: Callable[[], Awaitable[T]], max_failures: int) -> T:
    """What ``attempt`` gives, tried again with growing pauses; ``ServerError`` after so many failures."""
    for failures in range(1, max_failures + 1):
        try:
            return await attempt()
        except AnswerError as error:
            await pause_or_give_up(error, failures, max_failures)
    raise AssertionError("not reached")


async def pause_or_give_up(error: AnswerError, failures: int, max_failures: int) -> None:
    """Wait before the next try: longer after each failure, and as long as the server asks; or raise ``ServerError``."""
    if failures >= max_failures:
        raise ServerError(f"{error} ({failures} failures in a row: giving up)") from None
    await asyncio.sleep(max(0.5 * failures, error.retry_after_s))


@dataclass
class Stream:
    """The tokens of one sequence as they arrived."""

    times_s: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    """Output tokens that had arrived at each time (a chunk may carry several)."""


@dataclass
class Answer:
    """One answered request (of one or more prompts)."""

    sent_s: float
    done_s: float
    streams: list[Stream]
    completion_tokens: int


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
        """GET a path; raises ``ServerError`` when nobody answers (the status is the caller's to judge)."""
        try:
            async with asyncio.timeout(self.timeout_s), self._http.stream("GET", path) as response:
                return httpx.Response(response.status_code, content=await self._body(response, path))
        except TimeoutError:
            raise AnswerError(f"{self.url}{path}: no answer within {self.timeout_s:g} s") from None
        except httpx.TransportError as error:
            raise ServerError(f"{self.url}{path}: no server answers there ({_name(error)})") from None

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
        except httpx.TransportError as error:
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
        streams = [Stream() for _ in range(sequences)]
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
                    if self._take(line[5:], clock(), streams, max_tokens, on_token):
                        silence.reschedule(clock() + self.timeout_s)
        finally:
            await response.aclose()
        got = [stream.tokens[-1] if stream.tokens else 0 for stream in streams]
        if not ended or any(tokens != max_tokens for tokens in got):
            missing = sequences * max_tokens - sum(got)
            raise AnswerError(f"{self.url}: the answer was cut short ({missing} of its tokens are missing)")
        return Answer(sent_s, clock(), streams, sum(got))

    def _take(
        self,
        line: str,
        now_s: float,
        streams: list[Stream],
        max_tokens: int,
        on_token: Callable[[int, int], None] | None,
    ) -> bool:
        """Note the tokens of one chunk; whether there are any."""
        try:
            chunk = json.loads(line)
        except (ValueError, RecursionError):
            raise AnswerError(f"{self.url}: the answer was cut short (a half line: {line[:80]!r})") from None
        if isinstance(chunk, dict) and chunk.get("error"):
            raise AnswerError(f"{self.url}: the server failed while it answered: {self._message(chunk)}")
        grown = False
        choices = _choices(chunk, len(streams))
        if choices is None:
            raise AnswerError(f"{self.url}: malformed answer, no chunk of a completion: {line.strip()[:80]!r}")
        for index, counted in choices:
            stream = streams[index]
            before = stream.tokens[-1] if stream.tokens else 0
            # Servers without continuous usage send one token per chunk.
            tokens = before + 1 if counted is None else counted
            if tokens > max_tokens:
                raise AnswerError(f"{self.url}: the server sends more tokens than the {max_tokens} it was asked for")
            if tokens > before:
                grown = True
                stream.times_s.append(now_s)
                stream.tokens.append(tokens)
                if on_token is not None:
                    on_token(index, tokens)
        return grown

    async def _lines(self, response: httpx.Response) -> AsyncIterator[str]:
        """The lines of a stream as they arrive; none is read beyond ``MAX_LINE``."""
        rest = b""
        async for part in response.aiter_bytes():
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
        async for part in response.aiter_bytes():
            body += part
            if len(body) > MAX_BODY:
                raise ServerError(f"{self.url}{path}: an answer of more than {MAX_BODY} bytes")
        return bytes(body)

    async def _refused(self, response: httpx.Response) -> None:
        async with asyncio.timeout(self.timeout_s):
            text = (await self._body(response, "/v1/completions")).decode(errors="replace")
        answer = _json(text)
        reason = self._message(text.strip() if answer is None else answer)
        message = f"{self.url}/v1/completions: HTTP {response.status_code}: {reason}"
        if not may_pass(response.status_code):
            raise ServerError(message)
        raise AnswerError(message, _retry_after_s(response.headers.get("retry-after", "")))

    def _message(self, answer: Any) -> str:
        error = answer.get("error", answer) if isinstance(answer, dict) else answer
        text = str(error.get("message", error) if isinstance(error, dict) else error)
        # Some servers repeat the key that they refuse.
        return (text.replace(self._key, "***") if self._key else text)[:300]


def may_pass(status: int) -> bool:
    """Whether a request that was answered so may succeed later."""
    return status >= 500 or status in (408, 429)


def _retry_after_s(value: str) -> float:
    """Seconds that a ``Retry-After`` asks for: a number, or a date (0 where it is neither)."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S) if seconds == seconds else 0.0


def _json(text: str) -> Any:
    """The JSON value of a text; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _choices(chunk: Any, sequences: int) -> list[tuple[int, int | None]] | None:
    """Which sequences a chunk has tokens of, and their tokens so far (None: not counted); None: it is no chunk."""
    usage = (chunk.get("usage") or {}) if isinstance(chunk, dict) else None
    choices = (chunk.get("choices") or []) if isinstance(chunk, dict) else None
    if not isinstance(usage, dict) or not isinstance(choices, list):
        return None
    counted = usage.get("completion_tokens")
    if counted is not None and (type(counted) is not int or counted < 0):
        return None
    found: list[tuple[int, int | None]] = []
    for choice in choices:
        index = choice.get("index") if isinstance(choice, dict) else None
        if type(index) is not int or not 0 <= index < sequences:
            return None
        found.append((index, counted))
    return found


def _name(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__
