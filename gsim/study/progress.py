"""Progress on standard error: what is done, what is left, for how long."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")
_POLL_S = 0.25


def say(text: str) -> None:
    """One line of talk (standard error); where that cannot be written, nobody listens, and work goes on."""
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201
    except OSError:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process


def clock(seconds: float) -> str:
    """Minutes and seconds, for people."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Left

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        Left(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        speed_estimate_period=120.0,
    )


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """The items one by one, with a bar (only where standard error is a terminal)."""
    size = total if total is not None else (len(items) if isinstance(items, Sequence) else None)
    with _bar() as bar:
        task = bar.add_task(description, total=size)
        for item in items:
            yield item
            bar.advance(task)


def simulated(clocks_s: Sequence[float]) -> str:
    """Where the simulated clocks of runs under way are, in words (nothing where none is known)."""
    if not clocks_s:
        return ""
    first, last = f"{clocks_s[0]:,.0f}", f"{clocks_s[-1]:,.0f}"
    return f" (simulated clock at {first} s)" if first == last else f" (simulated clocks at {first} to {last} s)"


def standing(
    description: str, total: int, count: int, new: int, elapsed_s: float, clocks_s: Sequence[float] = ()
) -> str:
    """How far work is, in a line: what is left is told once something is done."""
    left = f", about {clock(elapsed_s / new * (total - count))} left" if new else ""
    return f"{description}: {count} of {total}{left}{simulated(clocks_s)}"


@contextmanager
def watching(
    description: str, total: int, done: Callable[[], int], clocks: Callable[[], Sequence[float]] = tuple
) -> Iterator[None]:
    """A bar that follows work done elsewhere: ``done`` is asked a few times a second by a thread.

    ``clocks`` tells where in simulated time the work under way is. Where standard error is no terminal, a line every 20
    seconds takes its place, with the time left too.
    """
    stop = threading.Event()
    with _bar() as bar:
        task = bar.add_task(description, total=total)

        begin_s, before = time.monotonic(), done()

        def follow() -> None:
            quiet_s = 0.0
            while not stop.wait(_POLL_S):
                count = done()
                bar.update(task, completed=count, description=f"{description}{simulated(clocks())}")
                quiet_s += _POLL_S
                if bar.disable and quiet_s >= 20.0:
                    quiet_s = 0.0
                    say(standing(description, total, count, count - before, time.monotonic() - begin_s, clocks()))

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            bar.update(task, completed=done())
