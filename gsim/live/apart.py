"""Something that runs in a process of its own, so that it does not share a core's time with whoever started it."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

#: A process that was told to end is given so long.
_ENDING_S = 5.0


@contextlib.contextmanager
def apart(main: Callable[..., None], *args: Any) -> Iterator[Connection]:
    """Call ``main(pipe, *args)`` in a process of its own; what is left is the pipe's other end.

    The process ends when ``main`` returns. When the context is left the pipe is closed, which is how ``main`` is told.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=main, args=(there, *args), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        here.close()
        process.join(_ENDING_S)
        if process.is_alive():
            process.terminate()


async def readable(pipe: Connection) -> None:
    """Until something has come over it, or the other side is gone."""
    loop, come = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pipe.fileno(), come.set)
    try:
        await come.wait()
    finally:
        loop.remove_reader(pipe.fileno())
