"""Judge a profile by a load that calibration did not see: live, several times, and simulated once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
from rich.console import Console

from gsim.calibration.client import Client
from gsim.calibration.cores import CoreWatch
from gsim.calibration.fit import PROFILE, RequestOverhead, read_overhead
from gsim.calibration.options import ValidateOptions, api_key
from gsim.calibration.raw import RawStore
from gsim.calibration.server import wait_until_idle
from gsim.core.errors import InputError
from gsim.core.events import EngineEvent, EventKind
from gsim.core.files import write_whole, written
from gsim.core.request import Job, Request
from gsim.core.streams import Streams
from gsim.engine import EngineConfig, EngineLimits, make_engine
from gsim.latency import Profile, load_profile
from gsim.validation.judgement import by_overlap, compare, ecdf_plot, markdown, overlap_markdown
from gsim.validation.pipelined import replay as replay_ahead


@dataclass(frozen=True)
class Load:
    """Requests of a load: when, how long a prompt, how long an answer."""

    arrivals_s: tuple[float, ...]
    prompt_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.arrivals_s)


def draw_load(options: ValidateOptions) -> Load:
    """Poisson arrivals with uniform prompt and output lengths; the same seed draws the same load."""
    rng = Streams(options.seed).stream("validation")
    arrivals = np.cumsum(rng.exponential(1.0 / options.rate_per_s, options.requests))
    prompts = rng.integers(options.prompt_tokens[0], options.prompt_tokens[1] + 1, options.requests)
    outputs = rng.integers(options.output_tokens[0], options.output_tokens[1] + 1, options.requests)
    return Load(tuple(arrivals.tolist()), tuple(prompts.tolist()), tuple(outputs.tolist()))


async def validate(options: ValidateOptions, transport: httpx.AsyncBaseTransport | None = None) -> str:
    """Replay a load live and simulated; writes its files into ``options.out`` and returns the table (Markdown)."""
    folder = Path(options.out)
    meta = RawStore(folder).meta()
    overhead = read_overhead(folder)
    profile = load_profile(folder / PROFILE)
    load = draw_load(options)
    longest = max(p + o for p, o in zip(load.prompt_tokens, load.output_tokens, strict=True))
    if longest > profile.max_model_len:
        raise InputError(f"a request of {longest} tokens does not fit the server's {profile.max_model_len}")
    low, high = (meta["options"][name] for name in ("low_token", "high_token"))
    replays = await _replays(options, load, meta["model"], meta["metrics"], (low, high), transport)
    tables = [replay.table for replay in replays]
    simulated = simulate(profile, meta["block_size"], load, overhead, async_scheduling=options.async_scheduling)
    _keep(folder / f"{options.name}_requests.parquet", tables, simulated)
    judged = compare(tables, simulated)
    with written(folder / f"{options.name}.csv") as aside:
        judged.to_csv(aside, index=False)
    with written(folder / f"{options.name}.png") as aside:
        ecdf_plot(tables, simulated).savefig(aside, dpi=120)
    text = markdown(judged, options, max(replay.waited for replay in replays))
    text += "\n\n" + overlap_markdown(by_overlap(tables, simulated))
    write_whole(folder / f"{options.name}.md", text + "\n")
    return text


@dataclass(frozen=True)
class Replay:
    """One live replay, and how much other programs disturbed it (0 where nobody watched)."""

    table: pd.DataFrame
    waited: float


async def _replays(
    options: ValidateOptions,
    load: Load,
    model: str,
    metrics: bool,
    tokens: tuple[int, int],
    transport: httpx.AsyncBaseTransport | None,
) -> list[Replay]:
    """As many replays as asked for: undisturbed ones if they can be had, else the least disturbed."""
    console = Console(stderr=True)
    watch = CoreWatch(options.server_pid) if options.server_pid is not None else None
    most = options.max_replays or 3 * options.repeats
    done: list[Replay] = []
    async with Client(
        options.url,
        max_concurrency=options.max_concurrency,
        timeout_s=options.timeout_s,
        api_key=api_key(options.api_key_env),
        transport=transport,
    ) as client:
        while sum(one.waited <= options.max_wait for one in done) < options.repeats and len(done) < most:
            if metrics:
                await wait_until_idle(client, options.patience_s)
            if watch is not None:
                watch.start()
            # Not from the seed: prompts must be new to the server even where the same load was sent to it before, or
            # its prefix cache spares it the prefills.
            rng = np.random.default_rng()
            table = await replay(client, model, load, rng, tokens)
            done.append(Replay(table, watch.waited() if watch is not None else 0.0))
            disturbed = f" (the server waited {100 * done[-1].waited:.1f} % of its time for a core)" if watch else ""
            console.print(f"live replay {len(done)}: {len(load)} requests{disturbed}")
    return sorted(done, key=lambda one: one.waited)[: options.repeats]


async def replay(
    client: Client, model: str, load: Load, rng: np.random.Generator, tokens: tuple[int, int]
) -> pd.DataFrame:
    """Send the load at its times (open loop); a row per request, in seconds from its own sending."""
    loop = asyncio.get_running_loop()
    prompts = [rng.integers(*tokens, count).tolist() for count in load.prompt_tokens]
    start_s = loop.time() + 0.1

    async def one(i: int) -> tuple[float, float, float]:
        await asyncio.sleep(start_s + load.arrivals_s[i] - loop.time())
        answer = await client.complete(model, [prompts[i]], load.output_tokens[i])
        times = answer.streams[0].times_s
        return answer.sent_s - start_s, times[0] - answer.sent_s, times[-1] - answer.sent_s

    try:
        async with asyncio.TaskGroup() as group:
            sent = [group.create_task(one(i)) for i in range(len(load))]
    except ExceptionGroup as failures:
        # One failed answer is enough: a load that lacks requests is another load.
        raise failures.exceptions[0] from None
    rows = np.array([task.result() for task in sent])
    return _table(load, rows[:, 0], rows[:, 1], rows[:, 2])


def simulate(
    profile: Profile, block_size: int, load: Load, overhead: RequestOverhead, *, async_scheduling: bool = True
) -> pd.DataFrame:
    """The same load in the simulated engine; the API's overhead comes before it.

    ``async_scheduling``: iterations are scheduled one ahead of the processor, as vLLM does by default: a request that
    arrives during one of them waits for one more.
    """
    limits = EngineConfig(block_size=block_size).resolve(profile)
    entered = np.array([at + overhead.seconds(p) for at, p in zip(load.arrivals_s, load.prompt_tokens, strict=True)])
    order = np.argsort(entered, kind="stable")
    jobs = [
        Job(Request(k, float(entered[i]), load.prompt_tokens[i], load.output_tokens[i], inf), load.output_tokens[i])
        for k, i in enumerate(order.tolist())
    ]
    times_s = np.empty((2, len(load)))
    if async_scheduling:
        done = replay_ahead(jobs, profile.latency, limits)
        times_s[:, order] = done.first_token_s, done.last_token_s
    else:
        times_s[:, order] = _step_by_step(jobs, profile, limits)
    arrivals = np.asarray(load.arrivals_s)
    return _table(load, arrivals, times_s[0] - arrivals, times_s[1] - arrivals)


def _step_by_step(jobs: Sequence[Job], profile: Profile, limits: EngineLimits) -> tuple[list[float], list[float]]:
    """First and last token of each job where every iteration is scheduled when the one before has ended."""
    engine = make_engine("stepwise", profile.latency, limits)
    events: list[EngineEvent] = []
    for job in jobs:
        events += engine.advance(job.request.arrival_s)
        engine.submit(job, job.request.arrival_s)
    while (next_s := engine.next_event_s()) != inf:
        events += engine.advance(next_s)
    first = {e.request_id: e.time_s for e in events if e.kind is EventKind.FIRST_TOKEN}
    last = {e.request_id: e.time_s for e in events if e.kind is EventKind.FINISHED}
    return [first[i] for i in range(len(jobs))], [last[i] for i in range(len(jobs))]


def _table(load: Load, sent_s: np.ndarray, ttft_s: np.ndarray, e2e_s: np.ndarray) -> pd.DataFrame:
    outputs = np.asarray(load.output_tokens)
    return pd.DataFrame(
        {
            "sent_s": sent_s,
            "prompt_tokens": load.prompt_tokens,
            "output_tokens": load.output_tokens,
            "ttft_s": ttft_s,
            "tpot_s": np.where(outputs > 1, (e2e_s - ttft_s) / np.maximum(outputs - 1, 1), np.nan),
            "e2e_s": e2e_s,
        }
    )


def _keep(path: Path, live: Sequence[pd.DataFrame], simulated: pd.DataFrame) -> None:
    runs = [table.assign(run=f"live {i + 1}") for i, table in enumerate(live)]
    with written(path) as aside:
        pd.concat([*runs, simulated.assign(run="simulated")]).to_parquet(aside, index=False)
