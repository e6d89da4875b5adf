"""Talk to an OpenAI-compatible server: stream completions of token-id prompts, and time every token.

Times are those of the running event loop (monotonic seconds). Nothing here assumes a certain server.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httpx

from gsim.core.errors import ConfigError, InputError


class ServerError(InputError):
    """A live server that cannot be measured: it is down, refuses, or is not what was asked for."""


class AnswerError(ServerError):
    """One answer failed (5xx, silence, a cut stream): another try may succeed."""


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
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.timeout_s = timeout_s
        self._room = max_concurrency
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=max_concurrency)
        # The silence of a server is bounded in _within: also where the transport has no clock of its own.
        self._http = httpx.AsyncClient(base_url=self.url, timeout=None, limits=limits, transport=transport)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def get(self, path: str) -> httpx.Response:
        """GET a path; raises ``ServerError`` when nobody answers (the status is the caller's to judge)."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._http.get(path)
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
        ``AnswerError`` on 5xx, silence, a cut stream or too few tokens.
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
            return await self._stream(body, len(prompts), max_tokens, on_token)
        except httpx.TransportError as error:
            raise AnswerError(f"{self.url}: the answer was cut short ({_name(error)})") from None
        except TimeoutError:
            raise AnswerError(f"{self.url}: the server was silent for {self.timeout_s:g} s") from None
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
            async for line in _within(response.aiter_lines(), self.timeout_s):
                if not line.startswith("data: "):
                    continue
                if line == "data: [DONE]":
                    ended = True
                    break
                self._take(line, clock(), streams, on_token)
        finally:
            await response.aclose()
        got = [stream.tokens[-1] if stream.tokens else 0 for stream in streams]
        if not ended or any(tokens != max_tokens for tokens in got):
            missing = sequences * max_tokens - sum(got)
            raise AnswerError(f"{self.url}: the answer was cut short ({missing} of its tokens are missing)")
        return Answer(sent_s, clock(), streams, sum(got))

    def _take(
        self, line: str, now_s: float, streams: list[Stream], on_token: Callable[[int, int], None] | None
    ) -> None:
        try:
            chunk = json.loads(line[6:])
        except json.JSONDecodeError:
            raise AnswerError(f"{self.url}: the answer was cut short (a half line: {line[:80]!r})") from None
        if "error" in chunk:
            raise AnswerError(f"{self.url}: the server failed while it answered: {_message(chunk)}")
        usage = chunk.get("usage") or {}
        for choice in chunk.get("choices", ()):
            stream = streams[choice["index"]]
            before = stream.tokens[-1] if stream.tokens else 0
            # Servers without continuous usage send one token per chunk.
            tokens = int(usage.get("completion_tokens", before + 1))
            if tokens > before:
                stream.times_s.append(now_s)
                stream.tokens.append(tokens)
                if on_token is not None:
                    on_token(choice["index"], tokens)

    async def _refused(self, response: httpx.Response) -> None:
        async with asyncio.timeout(self.timeout_s):
            text = (await response.aread()).decode(errors="replace")
        try:
            reason = _message(json.loads(text))
        except json.JSONDecodeError:
            reason = text.strip()[:200]
        message = f"{self.url}/v1/completions: HTTP {response.status_code}: {reason}"
        raise ServerError(message) if response.status_code < 500 else AnswerError(message)


async def _within(lines: AsyncIterator[str], timeout_s: float) -> AsyncIterator[str]:
    """The lines, each within ``timeout_s`` of the one before (``TimeoutError``).

    One deadline that is pushed on, not a timer per line: at thousands of lines a second the difference is felt.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s) as deadline:
        async for line in lines:
            deadline.reschedule(loop.time() + timeout_s)
            yield line


def _message(answer: Any) -> str:
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    return str(error.get("message", error) if isinstance(error, dict) else error)[:300]


def _name(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__
