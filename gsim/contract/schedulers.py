"""What every policy of an engine's queue keeps to."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from gsim.contract.cases import require, run, same_run
from gsim.core import Engine, EngineEvent, EventKind, Job, Request
from gsim.core.answers import key_of, title
from gsim.core.registry import name_of
from gsim.core.scheduling import EngineCard, EnginePolicy, EngineRequest, Forecast
from gsim.engine import EngineConfig, make_engine
from gsim.latency import constant_profile

Make = Callable[[], EnginePolicy]

#: Between tight KV (half of what 16 requests want at their end) and more than enough.
_KV_TOKENS = (4_000, 100_000)
_CARD = EngineCard(16, 1000, 32, 2048, 0.02, 2e-4, tuple(0.015 + 0.0005 * n for n in range(32)), 131_072.0)


def requests() -> list[EngineRequest]:
    """Every kind of request that an engine may hold: fresh, half done, overrun, without deadline, without forecast."""
    spread = tuple(50.0 + 40.0 * k for k in range(10))
    made = []
    for k, forecast in enumerate((None, Forecast(200.0), Forecast(230.0, spread), Forecast(1.0, (1.0,) * 10))):
        for generated in (0, 3, 900):
            deadline_s = math.inf if k == 1 else 105.0 + generated
            made.append(
                EngineRequest(
                    *(3 * k + generated, 99.0, 100.0, deadline_s, k, "default", 500, 4096),
                    *(0, 0, generated, 0, 1 if generated else 0, forecast),
                )
            )
    return made


def orders_by_a_number(make: Make) -> None:
    """It orders requests by a number, also those without a deadline, without a prediction, or longer than predicted."""
    policy = make()
    for request in requests():
        answer: object = policy.queue_key(request, _CARD)
        key_of(answer, title("scheduler", policy), request.request_id)


def repeats(make: Make) -> None:
    """The same requests have the same keys, asked once or twice, by one object or two."""
    keys = [[policy.queue_key(r, _CARD) for r in requests()] for policy in (make(), make())]
    policy = make()
    again = [[policy.queue_key(r, _CARD) for r in requests()] for _ in range(2)][1]
    require(keys[0] == keys[1] == again, "the same requests had different keys")


def serves_everybody(make: Make) -> None:
    """Every request ends once, with all its tokens, and an engine with work is never idle: KV tight or ample."""
    for kv_tokens in _KV_TOKENS:
        for seed in range(2):
            events, jobs = _served(make, kv_tokens, seed)
            ends = Counter(e.request_id for e in events if e.kind in (EventKind.FINISHED, EventKind.REJECTED))
            require(len(ends) == len(jobs), f"{len(jobs) - len(ends)} of {len(jobs)} requests never ended")
            require(max(ends.values()) == 1, "a request ended twice")
            done = {e.request_id: e.generated_tokens for e in events if e.kind == EventKind.FINISHED}
            short = [i for i, tokens in done.items() if tokens != jobs[i].output_tokens]
            require(not short, f"request {short[:1]} ended with other tokens than it had to generate")


def does_not_look_ahead(make: Make) -> None:
    """What has happened up to a moment does not depend on how long requests will become after it."""
    cut_s = 3.0
    said = []
    for longer in (0, 500):
        events, _ = _served(make, _KV_TOKENS[0], 3, longer_after_tokens=longer, until_s=cut_s)
        said.append([event for event in events if event.time_s < cut_s])
    require(said[0] == said[1], "requests that would become longer later were served otherwise before")


def runs(make: Make) -> None:
    """A whole run with it ends, with every request finished or rejected, twice in the same way."""
    once, again = (run(engine=EngineConfig(policy=named(make))) for _ in range(2))
    require(same_run(once, again), "two runs of the same seed differ")


def named(make: Make) -> dict[str, Any]:
    """The policy as ``engine.policy`` names it, with its fields."""
    policy: Any = make()
    fields = {f.name: getattr(policy, f.name) for f in dataclasses.fields(policy) if f.init}
    return {"name": name_of("scheduler", policy), **fields}


def _served(
    make: Make, kv_tokens: int, seed: int, longer_after_tokens: int = 0, until_s: float = math.inf
) -> tuple[list[EngineEvent], dict[int, Job]]:
    """40 requests on one engine, in at most ``until_s``; the long ones longer by so many tokens."""
    profile = constant_profile(0.02, kv_tokens=kv_tokens, max_num_seqs=16)
    config = EngineConfig(name="decode_clock", policy=named(make), max_model_len=min(4000, kv_tokens))
    engine: Engine = make_engine(config.name, profile.latency, config.resolve(profile))
    jobs = _jobs(seed, longer_after_tokens)
    events: list[EngineEvent] = []
    for job in jobs.values():
        now_s = job.request.arrival_s
        while engine.next_event_s() <= min(now_s, until_s):
            events += _advance(engine)
        if now_s <= until_s:
            engine.submit(job, now_s)
    while engine.next_event_s() <= until_s and engine.next_event_s() < math.inf:
        events += _advance(engine)
        require(len(events) < 100_000, "the engine goes on for ever")
    return events, jobs


def _advance(engine: Engine) -> list[EngineEvent]:
    before_s = engine.next_event_s()
    events = engine.advance(before_s)
    working = bool(engine.progress(before_s)[0])
    require(not working or engine.next_event_s() < math.inf, "an engine with work stands still")
    return events


def _jobs(seed: int, longer: int) -> dict[int, Job]:
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(0.05, 40)).tolist()
    prompts, outputs = rng.integers(20, 400, 40).tolist(), rng.integers(1, 300, 40).tolist()
    made = {}
    for k, (at_s, prompt, output) in enumerate(zip(arrivals, prompts, outputs, strict=True)):
        request = Request(k, at_s, prompt, 4096, 4.0 + (k % 3), f"class {k % 2}", priority=k % 3)
        forecast = Forecast(150.0, tuple(30.0 * (i + 1) for i in range(10)))
        # With 20 ms per iteration nobody has 150 tokens in 3 s: those lengths are known to nobody before.
        made[k] = Job(request, output + longer if output > 150 else output, forecast=forecast)
    return made


CHECKS = (orders_by_a_number, repeats, serves_everybody, does_not_look_ahead, runs)
