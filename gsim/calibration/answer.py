"""An answer of a live server as it arrives: which tokens of which sequence came when."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gsim.calibration.retries import AnswerError


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


class Arriving:
    """The answer to one request while its chunks come in: ``sequences`` prompts, ``max_tokens`` tokens for each."""

    def __init__(
        self, url: str, sequences: int, max_tokens: int, key: str, on_token: Callable[[int, int], None] | None
    ) -> None:
        self._url = url
        self._max_tokens = max_tokens
        self._key = key
        self._on_token = on_token
        self._streams = [Stream() for _ in range(sequences)]

    def take(self, line: str, now_s: float) -> bool:
        """Note the tokens of one chunk; whether there are any. Raises ``AnswerError`` for what is no such chunk."""
        try:
            chunk = json.loads(line)
        except (ValueError, RecursionError):
            raise AnswerError(f"{self._url}: the answer was cut short (a half line: {line[:80]!r})") from None
        if isinstance(chunk, dict) and chunk.get("error"):
            raise AnswerError(f"{self._url}: the server failed while it answered: {fault_said(chunk, self._key)}")
        choices = _choices(chunk, len(self._streams))
        if choices is None:
            raise AnswerError(f"{self._url}: malformed answer, no chunk of a completion: {line.strip()[:80]!r}")
        grown = [self._grow(index, counted, now_s) for index, counted in choices]
        return any(grown)

    def _grow(self, index: int, counted: int | None, now_s: float) -> bool:
        """A sequence has ``counted`` tokens by now (None: one more than before); whether any are new."""
        stream = self._streams[index]
        before = stream.tokens[-1] if stream.tokens else 0
        # Servers without continuous usage send one token per chunk.
        tokens = before + 1 if counted is None else counted
        if tokens > self._max_tokens:
            raise AnswerError(f"{self._url}: the server sends more tokens than the {self._max_tokens} it was asked for")
        if tokens <= before:
            return False
        stream.times_s.append(now_s)
        stream.tokens.append(tokens)
        if self._on_token is not None:
            self._on_token(index, tokens)
        return True

    def whole(self, sent_s: float, done_s: float, ended: bool) -> Answer:
        """The answer, now that no more comes; raises ``AnswerError`` where tokens are missing or it did not end."""
        got = [stream.tokens[-1] if stream.tokens else 0 for stream in self._streams]
        if not ended or any(tokens != self._max_tokens for tokens in got):
            missing = len(got) * self._max_tokens - sum(got)
            raise AnswerError(f"{self._url}: the answer was cut short ({missing} of its tokens are missing)")
        return Answer(sent_s, done_s, self._streams, sum(got))


def fault_said(answer: Any, key: str) -> str:
    """What a server says went wrong, in 300 letters at most. Some servers repeat the ``key`` that they refuse."""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    text = str(error.get("message", error) if isinstance(error, dict) else error)
    return (text.replace(key, "***") if key else text)[:300]


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
