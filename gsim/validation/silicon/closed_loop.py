"""So many requests at once, for ever: what a benchmark with a concurrency limit does to an engine."""

from __future__ import annotations

import math

import numpy as np

from gsim.core import Job, Request
from gsim.core.errors import InputError
from gsim.core.events import EventKind
from gsim.engine import EngineConfig, make_engine
from gsim.latency import Profile

#: Requests per client: the first of each is not counted (all come at once), nor is the last (fewer and fewer are left).
_ROUNDS = 4
#: Prompts and answers are 80 to 100 % of what is stated, as in the benchmarks that the rows come from.
_SHORTEST = 0.8


def closed_loop(
    profile: Profile, concurrency: int, prompt_tokens: int, output_tokens: int, seed: int
) -> tuple[float, float]:
    """Mean TTFT and TPOT in seconds; raises ``InputError`` where a request does not fit."""
    rng = np.random.default_rng(seed)
    total = _ROUNDS * concurrency
    prompts, outputs = (
        rng.integers(max(1, math.ceil(_SHORTEST * tokens)), tokens + 1, total)
        for tokens in (prompt_tokens, output_tokens)
    )
    engine = make_engine("decode_clock", profile.latency, EngineConfig().resolve(profile))
    sent, first, last = np.zeros(total), np.full(total, np.nan), np.full(total, np.nan)
    submitted = 0

    def submit(now_s: float) -> None:
        nonlocal submitted
        i, submitted = submitted, submitted + 1
        sent[i] = now_s
        prompt, output = int(prompts[i]), int(outputs[i])
        engine.submit(Job(Request(i, now_s, prompt, output, math.inf), output), now_s)

    for _ in range(concurrency):
        submit(0.0)
    while (at_s := engine.next_event_s()) < math.inf:
        for event in engine.advance(at_s):
            if event.kind == EventKind.REJECTED:
                raise InputError(f"{prompt_tokens} + {output_tokens} tokens do not fit '{profile.name}'")
            if event.kind == EventKind.FIRST_TOKEN and np.isnan(first[event.request_id]):
                first[event.request_id] = event.time_s
            if event.kind == EventKind.FINISHED:
                last[event.request_id] = event.time_s
                if submitted < total:
                    submit(event.time_s)
    counted = slice(concurrency, total - concurrency)
    several = np.maximum(outputs[counted] - 1, 1)
    return float((first - sent)[counted].mean()), float(((last - first)[counted] / several).mean())
