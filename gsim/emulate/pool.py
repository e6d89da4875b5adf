"""A pool of emulated servers in one process, each on a port of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gsim.cluster import InstanceSpec
from gsim.core import ConfigError
from gsim.emulate.config import EmulateConfig
from gsim.emulate.faults import check_fault
from gsim.emulate.lengths import AnswerLengths
from gsim.emulate.metrics import lateness
from gsim.emulate.served import Served
from gsim.emulate.server import EmulatedServer
from gsim.gateway.clock import Clock
from gsim.live.bodies import BodyError
from gsim.live.pace import Pace
from gsim.live.vocabulary import vocabulary

_LAST_PORT = 65_535


@dataclass
class EmulatedPool:
    """Running servers; ``close`` ends them."""

    servers: list[EmulatedServer]
    urls: list[str]
    pace: Pace
    _runners: list[web.AppRunner]
    _timers: list[asyncio.TimerHandle]

    async def close(self) -> None:
        """End all servers; connections are cut."""
        for timer in self._timers:
            timer.cancel()
        self.pace.close()
        for runner in self._runners:
            await runner.cleanup()


async def start_pool(specs: Sequence[InstanceSpec], config: EmulateConfig) -> EmulatedPool:
    """Start a server per instance; raises ``ConfigError`` where a port is taken or a fault cannot be."""
    config.validate()
    last = config.port + len(specs) - 1
    if config.port and last > _LAST_PORT:
        raise ConfigError(
            f"port={config.port}: {len(specs)} instances need ports up to {last}; the last is {_LAST_PORT}"
        )
    pace = Pace(Clock(), config.speed)
    lengths = AnswerLengths(config.lengths, config.seed)
    late = lateness()
    pace.late = late.observe
    servers = []
    for spec in specs:
        model = config.served_model or spec.profile.model.name
        served = Served(pace, spec, model, late)
        words = vocabulary(config.vocabulary)
        servers.append(EmulatedServer(served, model, lengths, words, config.max_body_bytes))
    _check_plan(config, servers)
    pool = EmulatedPool(servers, [], pace, [], [])

    try:
        for number, server in enumerate(servers):
            port = config.port + number if config.port else 0
            pool.urls.append(await _listen(server, config.host, port, pool._runners))
    except BaseException:
        await pool.close()
        raise
    loop = asyncio.get_running_loop()
    for fault in config.faults:
        begin = servers[fault.get("instance", 0)].faults.begin
        pool._timers.append(loop.call_later(fault.get("at_s", 0.0) / config.speed, begin, fault))
    return pool


async def _listen(server: EmulatedServer, host: str, port: int, runners: list[web.AppRunner]) -> str:
    runner = web.AppRunner(server.app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    runners.append(runner)
    site = web.TCPSite(runner, host, port, backlog=1024)
    try:
        await site.start()
    except OSError as error:
        raise ConfigError(f"port {port} on {host} cannot be had: {error.strerror or error}") from None
    bound: Any = runner.addresses[0]
    return f"http://{host}:{bound[1]}"


def _check_plan(config: EmulateConfig, servers: list[EmulatedServer]) -> None:
    """Raise ``ConfigError`` for a planned fault that cannot be."""
    for fault in config.faults:
        instance = fault.get("instance", 0)
        if type(instance) is not int or not 0 <= instance < len(servers):
            raise ConfigError(f"plan: instance must be from 0 to {len(servers) - 1}, not {instance}")
        try:
            check_fault(fault)
        except BodyError as error:
            raise ConfigError(f"plan: {error.message}") from None
