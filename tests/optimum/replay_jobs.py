"""Jobs, small instances, and what the real engines make of an assignment: what the optimum's tests share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gsim.core import EventKind, Job, LatencyModel, Request
from gsim.engine import EngineLimits, make_engine
from gsim.latency import ConstantTime, Domain, Extent, IterationGrid, SoftRoofline
from gsim.optimum import Server

_EXTENT = Extent(1024, 16384, 200_000)
DOMAIN = Domain(_EXTENT, _EXTENT, "test")


def roofline(weights_s: float = 0.01, token_s: float = 2e-4, sharpness: float = 2.0, **more: float) -> SoftRoofline:
    costs = {"sequence_s": 1e-4, "context_token_s": 1e-5, "square_token_s": 1e-7} | more
    return SoftRoofline(DOMAIN, weights_s, token_s, sharpness, **costs)


def grid() -> IterationGrid:
    """A grid with steps and a dip in batch and in tokens, as measured tables have them."""
    return IterationGrid(
        DOMAIN,
        (1, 2, 4, 8),
        (16, 64, 256),
        ((0.010, 0.0102, 0.011), (0.0099, 0.0104, 0.012), (0.0125, 0.0131, 0.016), (0.0126, 0.015, 0.022)),
        (16, 32, 64),
        (0,),
        ((0.0115,), (0.0112,), (0.019,)),
        square_token_s=1e-7,
        overhead_s=0.001,
    )


def constant(seconds: float = 0.02) -> ConstantTime:
    return ConstantTime(seconds)


@dataclass(frozen=True)
class Instance:
    """A latency model with an engine's limits."""

    latency: LatencyModel
    limits: EngineLimits

    def server(self, name: str) -> Server:
        return Server.of(name, self.latency, self.limits)


def job(request_id: int, arrival_s: float, prompt: int, output: int, slo_s: float, segment: int | None = None) -> Job:
    """A job whose prompt is its own, or begins as all prompts of ``segment`` do."""
    content = () if segment is None else ((segment, prompt),)
    return Job(Request(request_id, arrival_s, prompt, output + 5, slo_s, content=content), output)


def replay(instance: Instance, jobs: Iterable[Job], delays_s: dict[int, float] | None = None) -> set[int]:
    """Which of the jobs finish inside their SLO when all of them run on one instance's real engine."""
    engine = make_engine("stepwise", instance.latency, instance.limits)
    good: set[int] = set()
    deadline = {j.request.request_id: j.request.deadline_s for j in jobs}
    held = delays_s or {}
    order = sorted(
        jobs, key=lambda j: (j.request.arrival_s + held.get(j.request.request_id, 0.0), j.request.request_id)
    )
    events = []
    for j in order:
        now_s = j.request.arrival_s + held.get(j.request.request_id, 0.0)
        events += engine.advance(now_s)
        engine.submit(j, now_s)
    while engine.next_event_s() < math.inf:
        events += engine.advance(engine.next_event_s())
    for event in events:
        if event.kind is EventKind.FINISHED and event.time_s <= deadline[event.request_id]:
            good.add(event.request_id)
    return good


def best_assignment(instances: Sequence[Instance], jobs: Sequence[Job]) -> int:
    """The most good requests of any assignment of jobs to instances (or to none), each replayed on the engines."""
    count = len(jobs)
    best = [0] * (1 << count)
    for instance in instances:
        alone = [len(replay(instance, [j for i, j in enumerate(jobs) if m >> i & 1])) for m in range(1 << count)]
        merged = list(best)
        for mask in range(1 << count):
            part = mask
            while True:
                merged[mask] = max(merged[mask], best[mask ^ part] + alone[part])
                if not part:
                    break
                part = (part - 1) & mask
        best = merged
    return best[-1]
