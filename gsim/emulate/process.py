"""A pool of emulated servers in a process of its own, so that it does not share a core's time with whoever loads it."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

from gsim.cluster import InstanceSpec
from gsim.core import ConfigError
from gsim.emulate.config import EmulateConfig
from gsim.live.rounds import run


@contextlib.contextmanager
def pool_process(specs: Sequence[InstanceSpec], config: EmulateConfig) -> Iterator[list[str]]:
    """Serve ``specs`` elsewhere; the servers' addresses. Raises ``ConfigError`` where they cannot be served."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, list(specs), config), daemon=True)
    process.start()
    there.close()
    try:
        try:
            answer = here.recv()
        except EOFError:
            raise ConfigError("the process of the emulated servers ended before it served") from None
        if isinstance(answer, str):
            raise ConfigError(answer)
        yield answer
    finally:
        here.close()  # tells it to end
        process.join(5.0)
        if process.is_alive():
            process.terminate()


def _serve(pipe: Connection, specs: list[InstanceSpec], config: EmulateConfig) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        run(_until_closed(pipe, specs, config))


async def _until_closed(pipe: Connection, specs: list[InstanceSpec], config: EmulateConfig) -> None:
    from gsim.emulate.pool import start_pool
    from gsim.live.quiet import hush

    hush()
    try:
        pool = await start_pool(specs, config)
    except ConfigError as error:
        pipe.send(str(error))
        return
    pipe.send(pool.urls)
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(pipe.fileno(), over.set)
    await over.wait()
    await pool.close()
