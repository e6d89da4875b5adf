"""Worker processes and signals: a command that is told to end does, and its workers with it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from types import FrameType

from gsim.core import SimulationError

_WATCH_S = 0.5
_watched: set[int] = set()


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end, as Ctrl-C does; its argument is the signal's number."""


@contextmanager
def stopping() -> Iterator[None]:
    """SIGTERM and SIGHUP end a command as Ctrl-C does: finished runs are kept, workers end.

    Signals belong to the main thread: in another one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Who was started to outlive its terminal (nohup) goes on doing so.
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is signal.SIG_DFL:
            signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)


@contextmanager
def all_alive() -> Iterator[None]:
    """Raises ``SimulationError`` where a worker process was killed in what goes on inside."""
    try:
        yield
    except BrokenExecutor as error:
        raise SimulationError(
            "a worker process ended in the middle of its work (killed, or out of memory?): finished runs are kept; "
            "with fewer workers (hydra.launcher.n_jobs) there is more memory for each"
        ) from error


def end_with(parent: int) -> None:
    """In a worker that ``parent`` started: end when that process is gone, however it went. Elsewhere: nothing."""
    if os.getppid() != parent or parent in _watched:
        return
    _watched.add(parent)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(1)
