"""How asking a live server fails, and when it is asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from gsim.core.errors import InputError

T = TypeVar("T")

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


def may_pass(status: int) -> bool:
    """Whether a request that was answered so may succeed later."""
    return status >= 500 or status in (408, 429)


def retry_after_s(value: str) -> float:
    """Seconds that a ``Retry-After`` asks for: a number, or a date (0 where it is neither)."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S) if seconds == seconds else 0.0
