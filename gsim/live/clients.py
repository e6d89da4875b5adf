"""The clients of a load in a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from multiprocessing.connection import Connection

from gsim.core import ConfigError, GsimError, Session
from gsim.live.apart import apart, readable
from gsim.live.load import Begin, Load, LoadOptions
from gsim.live.outcome import Outcome


class Clients:
    """Clients that wait elsewhere for a load to put."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    async def run(self, options: LoadOptions, begin: Begin) -> list[Outcome]:
        """See ``Load.run``; raises ``ConfigError`` where they cannot go on."""
        try:
            self._pipe.send(options)
            answer = await self._answer()
            if answer == _READY:
                self._pipe.send(await begin())
                answer = await self._answer()
        except (EOFError, OSError):
            raise ConfigError("the clients' process ended before its load did") from None
        if isinstance(answer, str):
            raise ConfigError(answer)
        outcomes: list[Outcome] = answer
        return outcomes

    async def _answer(self) -> str | list[Outcome]:
        """What comes next: ``_READY``, why they cannot go on, or the outcomes; raises ``EOFError``, ``OSError``."""
        await readable(self._pipe)
        answer: str | list[Outcome] = self._pipe.recv()
        return answer


@contextlib.contextmanager
def clients_process(sessions: list[Session]) -> Iterator[Clients]:
    """Clients for a load of these sessions."""
    with apart(_clients, sessions) as pipe:
        yield Clients(pipe)


_READY = "ready"


def _clients(pipe: Connection, sessions: list[Session]) -> None:
    # Whoever waits for them may have gone: then there is nobody to tell.
    with contextlib.suppress(KeyboardInterrupt, EOFError, OSError):
        options: LoadOptions = pipe.recv()
        answer = asyncio.run(_put(pipe, sessions, options))
        if answer is not None:
            pipe.send(answer)


async def _put(pipe: Connection, sessions: list[Session], options: LoadOptions) -> list[Outcome] | str | None:
    """Put the load: its outcomes, why it cannot be put, or None where nobody waits for them any more."""
    begun = asyncio.Event()

    async def begin() -> float:
        pipe.send(_READY)
        await readable(pipe)
        began_s: float = pipe.recv()
        begun.set()
        return began_s

    async def left() -> None:
        # Nothing comes behind the moment at which to begin: what does is the end of the pipe.
        await begun.wait()
        await readable(pipe)

    load = asyncio.create_task(Load(iter(sessions), options).run(begin))
    alone = asyncio.create_task(left())
    await asyncio.wait((load, alone), return_when=asyncio.FIRST_COMPLETED)
    if not load.done():
        load.cancel()
        return None
    alone.cancel()
    try:
        return load.result()
    except (GsimError, OSError) as error:
        return str(error) or type(error).__name__
