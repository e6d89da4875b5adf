"""Whoever waits for a server that says nothing is not left to wait for ever."""

from __future__ import annotations

import asyncio
import time
from typing import Any


class Silence:
    """Cancels a task when nothing was heard for ``limit_s`` real seconds.

    One timer that looks when something was heard last: setting it anew at every event would cost a fifth of an event.
    """

    __slots__ = ("_heard_s", "_limit_s", "_task", "_timer", "too_long")

    def __init__(self, task: asyncio.Task[Any], limit_s: float) -> None:
        self._heard_s = time.monotonic()
        self.too_long = False
        """The task was cancelled because of it."""
        self._task = task
        self._limit_s = limit_s
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    def heard(self) -> None:
        """Something was heard just now."""
        self._heard_s = time.monotonic()

    def close(self) -> None:
        """Nothing will be heard any more: a timer would keep the task, and all that it holds, until it rings."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        left_s = self._heard_s + self._limit_s - time.monotonic()
        if left_s > 0:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._look)
        elif not self._task.done():
            self.too_long = True
            self._task.cancel()
