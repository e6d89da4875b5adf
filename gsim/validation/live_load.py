"""A load of single requests as a live server gets it, and the same load in the simulated engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import pandas as pd

from gsim.calibration.fit import RequestOverhead
from gsim.calibration.options import ValidateOptions
from gsim.core.events import EngineEvent, EventKind
from gsim.core.request import Job, Request
from gsim.core.streams import Streams
from gsim.engine import EngineConfig, EngineLimits, make_engine
from gsim.latency import Profile
from gsim.validation.pipelined import replay as replay_ahead


@dataclass(frozen=True)
class Load:
    """Requests of a load: when, how long a prompt, how long an answer."""

    arrivals_s: tuple[float, ...]
    prompt_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.arrivals_s)

    def __str__(self) -> str:
        span_s = self.arrivals_s[-1]
        return (
            f"{len(self)} requests in {span_s:.1f} s ({len(self) / span_s:.2g}/s), {min(self.prompt_tokens)}-"
            f"{max(self.prompt_tokens)} prompt and {min(self.output_tokens)}-{max(self.output_tokens)} output tokens"
        )


def draw_load(options: ValidateOptions) -> Load:
    """Poisson arrivals with uniform prompt and output lengths; the same seed draws the same load."""
    rng = Streams(options.seed).stream("validation")
    arrivals = np.cumsum(rng.exponential(1.0 / options.rate_per_s, options.requests))
    prompts = rng.integers(options.prompt_tokens[0], options.prompt_tokens[1] + 1, options.requests)
    outputs = rng.integers(options.output_tokens[0], options.output_tokens[1] + 1, options.requests)
    return Load(tuple(arrivals.tolist()), tuple(prompts.tolist()), tuple(outputs.tolist()))


def simulate(
    profile: Profile,
    block_size: int,
    load: Load,
    overhead: RequestOverhead,
    *,
    async_scheduling: bool = True,
    arrival_s: float = 0.0,
) -> pd.DataFrame:
    """The same load in the simulated engine; the API's overhead comes before it.

    ``async_scheduling``: iterations are scheduled one ahead of the processor, as vLLM does by default: a request that
    arrives during one of them waits for one more. ``arrival_s``: each arrival keeps the next iteration from starting
    for so long, where API server and scheduler share a core (with ``async_scheduling`` alone).
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
        done = replay_ahead(jobs, profile.latency, limits, arrival_s=arrival_s)
        times_s[:, order] = done.first_token_s, done.last_token_s
    else:
        times_s[:, order] = _step_by_step(jobs, profile, limits)
    arrivals = np.asarray(load.arrivals_s)
    return requests_table(load, arrivals, times_s[0] - arrivals, times_s[1] - arrivals)


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


def requests_table(load: Load, sent_s: np.ndarray, ttft_s: np.ndarray, e2e_s: np.ndarray) -> pd.DataFrame:
    """A row per request of a load: sent_s, prompt_tokens, output_tokens, ttft_s, tpot_s, e2e_s."""
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
