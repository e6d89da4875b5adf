"""Emulated servers and clients of them, inside one event loop, on free ports of this machine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from gsim.cluster import InstanceSpec
from gsim.emulate.config import EmulateConfig
from gsim.emulate.pool import EmulatedPool, start_pool
from gsim.engine import EngineConfig
from gsim.latency import load_profile
from gsim.live.sse import Events

MODEL = "llama-3.1-8b"


def specs(*names: str, engine: EngineConfig | None = None, api_s: float = 0.0) -> list[InstanceSpec]:
    names = names or ("h800-llama-3.1-8b",)
    return [
        InstanceSpec(f"{name}-{i}", load_profile(name), engine or EngineConfig(), api_s) for i, name in enumerate(names)
    ]


@asynccontextmanager
async def emulated(*names: str, engine: EngineConfig | None = None, api_s: float = 0.0, **options: Any):
    """A running pool and an HTTP session."""
    config = EmulateConfig(port=0, **{"speed": 20.0, **options})
    pool = await start_pool(specs(*names, engine=engine, api_s=api_s), config)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        try:
            yield pool, http
        finally:
            await pool.close()


def run(test: Callable[[EmulatedPool, aiohttp.ClientSession], Awaitable[None]], *names: str, **options: Any) -> None:
    """Run a test with a pool; nothing may take longer than 20 s."""

    async def main() -> None:
        async with emulated(*names, **options) as (pool, http):
            await test(pool, http)

    asyncio.run(asyncio.wait_for(main(), 20.0))


async def post(http: aiohttp.ClientSession, url: str, body: Any, **more: Any) -> tuple[int, Any]:
    async with http.post(url, json=body, **more) as response:
        return response.status, await response.json()


async def chunks(http: aiohttp.ClientSession, url: str, body: dict[str, Any], **more: Any) -> AsyncIterator[Any]:
    """The events of a stream, read; the last is "[DONE]"."""
    async with http.post(url, json={"stream": True, **body}, **more) as response:
        assert response.status == 200, await response.text()
        events = Events()
        async for data in response.content.iter_any():
            for event in events.feed(data):
                yield event.decode() if event == b"[DONE]" else json.loads(event)


async def all_chunks(http: aiohttp.ClientSession, url: str, body: dict[str, Any], **more: Any) -> list[Any]:
    return [chunk async for chunk in chunks(http, url, body, **more)]


async def until(holds: Callable[[], bool], what: str, seconds: float = 5.0) -> None:
    """Wait for something that happens elsewhere in the loop."""
    for _ in range(int(seconds / 0.005)):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{what} within {seconds} s")
