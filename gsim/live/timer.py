"""One timer of an event loop that rings when it should: the loop's own waits are in whole milliseconds."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

_CLOCK_MONOTONIC = 1
#: A delay of nothing would stop the timer: it is a nanosecond instead.
_SOON_S = 1e-9


class _Spec(ctypes.Structure):
    """``struct itimerspec``: an interval (none here) and a delay, each in seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "in_s", "in_ns")]


class Timer:
    """Calls ``ring`` once, after the delay that was set last.

    Linux has timers that are files (``timerfd``), which a loop watches as it watches connections, and which are exact
    to some microseconds. Elsewhere, and where a loop watches no files, it is the loop's own timer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        self._spec = _Spec()
        self._file = _timer_file()
        if self._file >= 0:
            loop.add_reader(self._file, self._rung)

    def set(self, delay_s: float) -> None:
        """Ring in so many seconds of real time, and not when it was set to ring before."""
        if self._file < 0:
            self.stop()
            self._handle = self._loop.call_later(max(delay_s, 0.0), self._ring)
            return
        whole, rest = divmod(max(delay_s, _SOON_S), 1.0)
        self._arm(int(whole), int(rest * 1e9))

    def stop(self) -> None:
        """Do not ring."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._file >= 0:
            self._arm(0, 0)

    def close(self) -> None:
        """Do not ring any more."""
        self.stop()
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1

    def _arm(self, seconds: int, nanoseconds: int) -> None:
        self._spec.in_s, self._spec.in_ns = seconds, nanoseconds
        _libc().timerfd_settime(self._file, 0, ctypes.byref(self._spec), None)

    def _rung(self) -> None:
        try:
            os.read(self._file, 8)
        except BlockingIOError:
            # It was set anew between its ringing and now.
            return
        self._ring()


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _timer_file() -> int:
    """A timer of the system's; -1 where it has none."""
    if not sys.platform.startswith("linux"):
        return -1
    try:
        return int(_libc().timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
    except (OSError, AttributeError):
        return -1
