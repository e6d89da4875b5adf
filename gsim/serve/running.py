"""A gateway put together and listening."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from gsim.core import ConfigError
from gsim.gateway.policies import Policies
from gsim.gateway.telemetry_config import TelemetryConfig
from gsim.serve.api import Api
from gsim.serve.config import ServeConfig
from gsim.serve.discover import discover
from gsim.serve.service import Service


@dataclass
class RunningGateway:
    """A gateway that serves; ``close`` ends it."""

    service: Service
    url: str
    _http: aiohttp.ClientSession
    _runner: web.AppRunner

    async def close(self) -> None:
        """End it: no new requests, an end for those under way."""
        await self.service.close()
        await self._runner.cleanup()
        await self._http.close()


async def start_gateway(
    config: ServeConfig,
    policies: Callable[[], Policies],
    telemetry: TelemetryConfig,
    scrape_interval_s: float = 0.05,
) -> RunningGateway:
    """Ask the servers what they are, then listen; raises ``ConfigError`` for what cannot be served."""
    config.validate()
    # Servers that are silent are noticed by whoever waits for them (``Silence``).
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60.0)
    http = aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=1 << 18)
    try:
        servers = await discover(http, config.places())
        service = Service(http, servers, policies(), telemetry, config, scrape_interval_s)
        runner = web.AppRunner(Api(service).app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, config.host, config.port, backlog=2048).start()
        except OSError as error:
            await service.close()
            await runner.cleanup()
            raise ConfigError(f"port {config.port} on {config.host} cannot be had: {error.strerror or error}") from None
    except BaseException:
        await http.close()
        raise
    bound: Any = runner.addresses[0]
    return RunningGateway(service, f"http://{config.host}:{bound[1]}", http, runner)
