"""A pool of emulated servers in a process of its own, so that it does not share a core's time with whoever loads it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

from gsim.cluster import InstanceSpec
from gsim.core import ConfigError
from gsim.emulate.config import EmulateConfig
from gsim.live.apart import apart
from gsim.live.rounds import run


@contextlib.contextmanager
def pool_process(specs: Sequence[InstanceSpec], config: EmulateConfig) -> Iterator[list[str]]:
    """Serve ``specs`` elsewhere; the servers' addresses. Raises ``ConfigError`` where they cannot be served."""
    with watched_pool(specs, config) as (urls, _):
        yield urls


@contextlib.contextmanager
def watched_pool(specs: Sequence[InstanceSpec], config: EmulateConfig) -> Iterator[tuple[list[str], Connection]]:
    """The same, with what tells that the process has ended: a pipe that can be read from then on."""
    with apart(_serve, list(specs), config) as pipe:
        try:
            answer = pipe.recv()
        except (EOFError, OSError):
            raise ConfigError("the process of the emulated servers ended before it served") from None
        if isinstance(answer, str):
            raise ConfigError(answer)
        yield answer, pipe


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
