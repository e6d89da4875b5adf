"""The gateway over emulated servers inside one event loop, and what its clients are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import aiohttp
from live_cases import emulated

from gsim.core import ActiveRequests, ClusterView, Migration, build
from gsim.emulate.pool import EmulatedPool
from gsim.gateway.policies import Policies
from gsim.gateway.telemetry_config import TelemetryConfig
from gsim.serve.config import ServeConfig
from gsim.serve.running import RunningGateway, start_gateway

COMPLETE, CHAT = "/v1/completions", "/v1/chat/completions"
TWO = ("h800-llama-3.1-8b", "a40-llama-3.1-8b")
Test = Callable[[RunningGateway, EmulatedPool, aiohttp.ClientSession], Awaitable[None]]


@dataclass
class MoveAll:
    """Moves every request on at every review, up to so many times."""

    interval_s: float = 0.2
    moves: int = 2
    needs: ClassVar[frozenset[str]] = frozenset({"scrape"})

    def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
        fresh = (active.moves < self.moves) & (active.generated_tokens > 0) & ~active.moving
        pairs = zip(active.request_id[fresh].tolist(), active.instance[fresh].tolist(), strict=True)
        return [Migration(request, (instance + 1) % len(view)) for request, instance in pairs]


def policies(router: str = "round_robin", predictor: str = "history", **more: Any) -> Policies:
    if "rectifier" in more:
        more["mechanism"] = build("mechanism", "token_ids")
    return Policies(build("router", router), build("predictor", predictor), build("estimator", "ema"), **more)


def served(
    test: Test,
    *names: str,
    by: Callable[[], Policies] = policies,
    speed: float = 20.0,
    within_s: float = 20.0,
    **options: Any,
) -> None:
    """Run a test with a gateway over emulated servers; nothing may take longer than ``within_s``."""

    async def inner() -> None:
        async with emulated(*(names or TWO), speed=speed) as (pool, http):
            config = ServeConfig(backends=list(pool.urls), port=0, speed=speed, **options)
            gateway = await start_gateway(config, by, TelemetryConfig())
            try:
                await test(gateway, pool, http)
            finally:
                await gateway.close()

    asyncio.run(asyncio.wait_for(inner(), within_s))


def moving(moves: int = 2) -> Policies:
    return policies(rectifier=MoveAll(moves=moves))


GREEDY = {"temperature": 0, "return_token_ids": True, "stream_options": {"include_usage": True}}


def told(parts: list[Any]) -> tuple[list[int], str, list[Any]]:
    """Ids, text and ends of a stream of completions or of a chat."""
    choices = [choice for part in parts if part != "[DONE]" for choice in part["choices"]]
    ids = [i for choice in choices for i in choice.get("token_ids") or ()]
    text = "".join(choice["text"] if "text" in choice else choice["delta"].get("content", "") for choice in choices)
    return ids, text, [choice["finish_reason"] for choice in choices]
