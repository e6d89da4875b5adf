"""Judge a profile by a load that calibration did not see: live, several times, and simulated once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
from rich.console import Console

from gsim.calibration.client import Client, masked
from gsim.calibration.cores import CoreWatch
from gsim.calibration.fit import PROFILE, read_overhead
from gsim.calibration.options import JudgeOptions, ValidateOptions, api_key
from gsim.calibration.raw import RawStore
from gsim.calibration.server import wait_until_idle
from gsim.core.errors import InputError
from gsim.core.files import write_whole, written
from gsim.latency import load_profile
from gsim.validation.judgement import by_overlap, compare, ecdf_plot, markdown, overlap_markdown
from gsim.validation.live_load import Load, draw_load, requests_table, simulate
from gsim.validation.recording import Replay, keep, read_recording


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
    simulated = simulate(profile, meta["block_size"], load, overhead, async_scheduling=options.async_scheduling)
    keep(folder, options.name, asdict(options) | {"url": masked(options.url)}, replays, simulated)
    return _judged(
        folder, options.name, [one.table for one in replays], simulated, load, max(r.waited for r in replays)
    )


def judge(options: JudgeOptions) -> str:
    """Simulate a recorded load again and hold it against the live replays of then; as ``validate`` otherwise."""
    folder = Path(options.out)
    recording = read_recording(folder, options.name)
    profile = load_profile(folder / PROFILE if options.profile is None else options.profile)
    simulated = simulate(
        profile,
        RawStore(folder).meta()["block_size"],
        recording.load,
        read_overhead(folder),
        async_scheduling=options.async_scheduling,
        arrival_s=1e-3 * options.arrival_ms,
    )
    name = options.to or f"{options.name}-judged"
    return _judged(folder, name, recording.live, simulated, recording.load, recording.waited)


def _judged(
    folder: Path, name: str, live: Sequence[pd.DataFrame], simulated: pd.DataFrame, load: Load, waited: float
) -> str:
    """Table, plot and text of one comparison, written under ``name``; returns the text."""
    judged = compare(live, simulated)
    with written(folder / f"{name}.csv") as aside:
        judged.to_csv(aside, index=False)
    with written(folder / f"{name}.png") as aside:
        ecdf_plot(live, simulated).savefig(aside, dpi=120)
    text = markdown(judged, f"{load}, {len(live)} live replays", waited)
    text += "\n\n" + overlap_markdown(by_overlap(live, simulated))
    write_whole(folder / f"{name}.md", text + "\n")
    return text


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
            table, arrived = await replay(client, model, load, rng, tokens)
            done.append(Replay(table, arrived, watch.waited() if watch is not None else 0.0))
            disturbed = f" (the server waited {100 * done[-1].waited:.1f} % of its time for a core)" if watch else ""
            console.print(f"live replay {len(done)}: {len(load)} requests{disturbed}")
    return sorted(done, key=lambda one: one.waited)[: options.repeats]


async def replay(
    client: Client, model: str, load: Load, rng: np.random.Generator, tokens: tuple[int, int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Send the load at its times (open loop); a row per request, in seconds from its own sending, and a row per arrival
    of tokens."""
    loop = asyncio.get_running_loop()
    prompts = [rng.integers(*tokens, count).tolist() for count in load.prompt_tokens]
    start_s = loop.time() + 0.1

    arrivals: list[pd.DataFrame] = []

    async def one(i: int) -> tuple[float, float, float]:
        await asyncio.sleep(start_s + load.arrivals_s[i] - loop.time())
        answer = await client.complete(model, [prompts[i]], load.output_tokens[i])
        times = answer.streams[0].times_s
        arrived = {"request": i, "time_s": np.asarray(times) - start_s, "tokens": answer.streams[0].tokens}
        arrivals.append(pd.DataFrame(arrived))
        return answer.sent_s - start_s, times[0] - answer.sent_s, times[-1] - answer.sent_s

    try:
        async with asyncio.TaskGroup() as group:
            sent = [group.create_task(one(i)) for i in range(len(load))]
    except ExceptionGroup as failures:
        # One failed answer is enough: a load that lacks requests is another load.
        raise failures.exceptions[0] from None
    rows = np.array([task.result() for task in sent])
    return requests_table(load, rows[:, 0], rows[:, 1], rows[:, 2]), pd.concat(arrivals)
