"""One configuration run live: clients, the gateway and emulated servers over HTTP, and what became of each request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, nan
from multiprocessing.connection import Connection
from typing import Any

import aiohttp
import numpy as np

from gsim.cluster import InstanceSpec
from gsim.core import ConfigError, Job, Population, Session, Status
from gsim.emulate.config import EmulateConfig
from gsim.emulate.pool import start_pool
from gsim.emulate.process import watched_pool
from gsim.gateway.records import Columns
from gsim.live.apart import readable
from gsim.live.clients import clients_process
from gsim.live.load import Begin, Load, LoadOptions, now
from gsim.live.outcome import Outcome
from gsim.live.pace import Pace
from gsim.live.rounds import run
from gsim.run.settings import Settings
from gsim.serve.choices import policies_of, scrape_interval_of
from gsim.serve.config import ServeConfig
from gsim.serve.discover import discover
from gsim.serve.exchange import Exchange
from gsim.serve.running import start_gateway
from gsim.study.progress import say

#: Puts a load: how, and when it is to begin.
PutLoad = Callable[[LoadOptions, Begin], Awaitable[list[Outcome]]]

#: So many of the clients' connections are open from the start.
_CONNECTIONS, _CONNECTIONS_IN_ONE = 512, 64


@dataclass(frozen=True)
class LiveOptions:
    """How a live run is made."""

    speed: float = 1.0
    """Seconds of the run per second of real time."""
    apart: bool = True
    """Servers and clients have a process of their own each; else all share one."""
    stream_interval: int = 1
    """Tokens per event that clients ask for."""
    target: str = ""
    """Address of a gateway that is running, in front of servers on ``port`` and the ports behind it; empty: ours."""
    port: int = 8100


@dataclass(frozen=True)
class LiveRun:
    """What a live run leaves: columns as those of a simulated one, by request id; and what failed, in words."""

    requests: Columns
    errors: tuple[str, ...]
    served: tuple[int, ...]
    """Requests that each server has answered."""


def live_run(settings: Settings, seed: int, options: LiveOptions) -> LiveRun:
    """Run a configuration live; raises ``ConfigError`` for what only a simulation can do."""
    specs = settings.choices["pool"].build().build(settings.choices["engine"].build())
    load = settings.load(seed)
    if isinstance(load, Population):
        raise ConfigError(f"trace={settings.choices['trace'].name} goes on for ever: give a load that ends")
    if settings.choices["faults"].name != "none":
        raise ConfigError("faults=none: live servers have their own faults (python -m gsim.emulate plan=...)")
    sessions = list(load)
    config = EmulateConfig(port=options.port if options.target else 0, speed=options.speed)
    if not options.apart:
        return run(_in_one(settings, seed, options, sessions, specs, config))
    with watched_pool(specs, config) as (urls, servers), clients_process(sessions) as clients:
        return run(_while_there(servers, _run(settings, seed, options, sessions, urls, clients.run)))


async def _while_there(servers: Connection, live: Coroutine[Any, Any, LiveRun]) -> LiveRun:
    """The live run; raises ``ConfigError`` where the process of its servers ends before it."""
    running, gone = asyncio.create_task(live), asyncio.create_task(readable(servers))
    try:
        await asyncio.wait((running, gone), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
        raise ConfigError("the process of the emulated servers ended before the load did")
    finally:
        for task in (running, gone):
            task.cancel()
        await asyncio.gather(running, gone, return_exceptions=True)


async def _in_one(
    settings: Settings,
    seed: int,
    options: LiveOptions,
    sessions: list[Session],
    specs: Sequence[InstanceSpec],
    config: EmulateConfig,
) -> LiveRun:
    pool = await start_pool(specs, config)
    try:
        return await _run(settings, seed, options, sessions, pool.urls, partial(_clients, sessions))
    finally:
        await pool.close()


async def _clients(sessions: list[Session], options: LoadOptions, begin: Begin) -> list[Outcome]:
    return await Load(iter(sessions), options).run(begin)


async def _run(
    settings: Settings, seed: int, options: LiveOptions, sessions: list[Session], urls: list[str], put: PutLoad
) -> LiveRun:
    if options.target:
        return await _through(options, sessions, urls, put)
    return await _through_ours(settings, seed, options, sessions, urls, put)


async def _through(options: LiveOptions, sessions: list[Session], urls: list[str], put: PutLoad) -> LiveRun:
    """By a gateway that somebody else has started."""
    async with aiohttp.ClientSession() as http:
        model = (await discover(http, [(urls[0], None)]))[0].model
        say(f"servers are up at {' '.join(urls)}; waiting for a gateway in front of them at {options.target}")
        await _until_there(http, options.target.rstrip("/"), model)
        before = [await _answered(http, url) for url in urls]
        load = LoadOptions([options.target.rstrip("/")], model, options.speed, plain=True, body=_body(options))
        outcomes = await put(load, now)
        served = [await _answered(http, url) - known for url, known in zip(urls, before, strict=True)]
    return LiveRun(_columns(sessions, outcomes, {}), _errors(outcomes), tuple(served))


def _body(options: LiveOptions) -> dict[str, Any]:
    return {"stream_interval": options.stream_interval} if options.stream_interval > 1 else {}


async def _until_there(http: aiohttp.ClientSession, target: str, model: str) -> None:
    """Wait until a gateway, whose servers have only just started, answers; raises ``ConfigError`` after a minute."""
    body = {"model": model, "messages": [{"role": "user", "content": "ready?"}], "max_tokens": 1}
    answered = 0
    for _ in range(120):
        try:
            async with asyncio.timeout(5.0), http.post(f"{target}/v1/chat/completions", json=body) as response:
                answered += response.status == 200
                # It may know one server, and not the others yet.
                if answered >= 8:
                    return
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass
        await asyncio.sleep(0.5)
    raise ConfigError(f"target={target}: no gateway answers there; start it in front of the pool's ports")


async def _answered(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(f"{url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("vllm:request_success_total"))


async def _through_ours(
    settings: Settings, seed: int, options: LiveOptions, sessions: list[Session], urls: list[str], put: PutLoad
) -> LiveRun:
    config = ServeConfig(backends=urls, port=0, speed=options.speed, seed=seed, max_hold_s=settings.max_hold_s)
    telemetry, interval_s = settings.choices["telemetry"].build(), scrape_interval_of(settings)
    gateway = await start_gateway(config, lambda: policies_of(settings), telemetry, interval_s)
    ends: dict[str, tuple[int, int, Status]] = {}

    def ended(_job: Job, exchange: Exchange, status: Status) -> None:
        moves = exchange.active.migrations if exchange.active is not None else 0
        ends[exchange.name] = (exchange.instance, moves, status)

    gateway.service.on_end = ended
    try:
        model = gateway.service.servers[0].model
        # In one process each takes two of its files.
        warm = [gateway.url] * min(len(sessions), _CONNECTIONS if options.apart else _CONNECTIONS_IN_ONE)
        load = LoadOptions([gateway.url], model, options.speed, body=_body(options), warm=warm)
        outcomes = await put(load, partial(_whole_second, gateway.service.pace))
    finally:
        await gateway.close()
    columns = _columns(sessions, outcomes, ends)
    served = np.bincount(columns["instance"][columns["instance"] >= 0], minlength=len(urls))
    return LiveRun(columns, _errors(outcomes), tuple(served.tolist()))


async def _whole_second(pace: Pace) -> float:
    """The next whole second of the gateway's clock but one: what it does again and again (observe, review) then comes
    up as long after arrivals as in a simulation, where both begin at 0."""
    return pace.moment_s(ceil(pace.now_s()) + 1.0)


def _errors(outcomes: list[Outcome]) -> tuple[str, ...]:
    return tuple(each.error for each in outcomes if each.error)


def _columns(sessions: list[Session], outcomes: list[Outcome], ends: dict[str, tuple[int, int, Status]]) -> Columns:
    jobs = {job.request.request_id: job for session in sessions for job in session.jobs}
    began_s = {job.request.request_id: session.arrival_s for session in sessions for job in session.jobs}
    rows = []
    for outcome in outcomes:
        job = jobs[outcome.request_id]
        instance, moves, status = ends.get(f"r{outcome.request_id}", (-1, 0, outcome.status))
        finished = outcome.status is Status.FINISHED
        rows.append(
            {
                "request_id": outcome.request_id,
                "session_id": job.request.session_id,
                "turn": job.request.turn,
                "instance": instance,
                "status": int(
                    Status.FINISHED if finished else status if status is not Status.FINISHED else Status.FAILED
                ),
                # Where a turn arrives depends on the one before; single requests arrive when the trace says.
                "arrival_s": outcome.arrival_s,
                "dispatched_s": outcome.arrival_s,
                "first_token_s": outcome.first_token_s,
                "finished_s": outcome.finished_s if finished else nan,
                "ended_s": outcome.finished_s if finished else outcome.arrival_s,
                "slo_s": job.request.slo_s,
                "prompt_tokens": job.request.prompt_tokens,
                "output_tokens": job.output_tokens,
                "generated_tokens": outcome.output_tokens,
                "cached_tokens": 0,
                "computed_tokens": job.request.prompt_tokens,
                "recomputed_tokens": 0,
                "preemptions": 0,
                "migrations": moves,
                "predicted_tokens": nan,
                "session_began_s": began_s[outcome.request_id],
            }
        )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]} if rows else {}
