"""An event loop that has a word for the end of a round: when all that was due is done, and before it waits for more."""

from __future__ import annotations

import asyncio
import gc
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

#: What is done at the end of a round; True: something may be due because of it, so the loop must not wait.
AtTheEnd = Callable[[], bool]


class _Selector(selectors.DefaultSelector):
    """A loop asks its selector once in every round, for what has come: that is the end of the round before."""

    def __init__(self) -> None:
        super().__init__()
        self.acts: list[AtTheEnd] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See ``selectors.BaseSelector``."""
        for act in self.acts:
            if act():
                timeout = 0
        return super().select(timeout)


class RoundLoop(asyncio.SelectorEventLoop):
    """asyncio's usual loop, which can do something at the end of every round without a round of its own for it."""

    def __init__(self) -> None:
        self._rounds = _Selector()
        super().__init__(self._rounds)

    def at_the_end(self, act: AtTheEnd) -> None:
        """Call ``act`` at the end of every round from now on."""
        self._rounds.acts.append(act)


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run``, on such a loop, in a process in which something has to be in time.

    What the process has loaded so far is not searched for garbage any more: that takes a tenth of a second, in which
    nothing else is done.
    """
    gc.collect()
    gc.freeze()
    try:
        with asyncio.Runner(loop_factory=RoundLoop) as runner:
            return runner.run(main)
    finally:
        gc.unfreeze()
