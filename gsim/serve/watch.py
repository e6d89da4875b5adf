"""What goes on beside requests: whether servers are there, how loaded they say they are, whether a request was lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

import aiohttp

from gsim.gateway.gateway import Gateway
from gsim.serve.config import ServeConfig
from gsim.serve.discover import ServerFacts, read_gauges
from gsim.serve.server_backend import ServerBackend

_log = logging.getLogger("gsim.serve")

Told = Callable[[int], None]


def _nobody(_number: int) -> None:
    """Nobody is told."""


class Watch:
    """Loops in real time, each a task; who wants to be told sets a function."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        servers: Sequence[ServerFacts],
        gateway: Gateway,
        backends: Sequence[ServerBackend],
        config: ServeConfig,
    ) -> None:
        self.down: Told = _nobody
        """A server (by index) has not answered so often."""
        self.back: Told = _nobody
        """A server that was down answers."""
        self.lost: Told = _nobody
        """A request (by number) is nowhere."""
        self.unreadable: Told = _nobody
        """A server's metrics made no sense."""
        self._http, self._servers, self._gateway = http, servers, gateway
        self._backends, self._config = backends, config
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, scrape_interval_s: float | None, now_s: Callable[[], float]) -> None:
        """Begin; gauges are read so often, in the policies' seconds, or never (None)."""
        indices = range(len(self._servers))
        loops = [self._look_after(i) for i in indices] + [self._sweep()]
        if scrape_interval_s is not None:
            loops += [self._scrape(i, scrape_interval_s, now_s) for i in indices]
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    async def close(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look_after(self, index: int) -> None:
        """Whether a server is there."""
        interval_s, url = self._config.health_interval_s, self._servers[index].url
        misses = 0
        while True:
            await asyncio.sleep(interval_s)
            if not await self._healthy(url, max(interval_s, 1.0)):
                misses += 1
                if misses >= self._config.health_failures:
                    self.down(index)
                continue
            misses = 0
            if not self._gateway.view.available[index]:
                _log.warning("%s is back", url)
                self.back(index)

    async def _healthy(self, url: str, timeout_s: float) -> bool:
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s), self._http.get(f"{url}/health") as response:
                return response.status < 500
        except TimeoutError:
            # Where this process itself came too late, nothing is known of the server.
            return time.monotonic() - began_s > 1.5 * timeout_s
        except (aiohttp.ClientError, OSError):
            return False

    async def _scrape(self, index: int, interval_s: float, now_s: Callable[[], float]) -> None:
        """Read a server's gauges again and again."""
        backend, url = self._backends[index], self._servers[index].url
        backend.stale_s = 3 * interval_s + 1.0
        while True:
            gauges = await read_gauges(self._http, url, max(10 * interval_s, 1.0))
            if gauges is not None:
                backend.read = (gauges, now_s())
            else:
                self.unreadable(index)
            await asyncio.sleep(interval_s / self._config.speed)

    async def _sweep(self) -> None:
        """A request that is nowhere (a policy failed when it was asked for it again) is lost."""
        before: set[int] = set()
        while True:
            await asyncio.sleep(1.0)
            gateway = self._gateway
            nowhere = {
                number
                for number, active in gateway.active.items()
                if active.instance < 0 and not active.moving and not gateway.holds(active)
            }
            for number in nowhere & before:
                self.lost(number)
            before = nowhere
