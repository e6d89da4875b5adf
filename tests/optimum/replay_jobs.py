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


def latency_s(instance: Instance, alone: Job) -> float:
    """Seconds from arrival to last token of a job that has the instance for itself (1 where it cannot run)."""
    engine = make_engine("stepwise", instance.latency, instance.limits)
    engine.advance(alone.request.arrival_s)
    engine.submit(alone, alone.request.arrival_s)
    ends = [e.time_s for e in engine.advance(1e3) if e.kind is EventKind.FINISHED]
    return ends[0] - alone.request.arrival_s if ends else 1.0


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


@dataclass(frozen=True)
class Move:
    """A request leaves for another instance, with the tokens it has."""

    at_s: float
    request_id: int
    target: int


def replay_moves(
    instances: Sequence[Instance], jobs: Sequence[Job], where: dict[int, int], moves: Sequence[Move], copied: bool
) -> set[int]:
    """Which jobs are good when some move: by token ids, or with their KV (``copied``), at no cost for the way."""
    engines = [make_engine("stepwise", i.latency, i.limits) for i in instances]
    current = {j.request.request_id: j for j in jobs}
    events = []
    dues: list[tuple[float, int, Job | Move]] = [(j.request.arrival_s, n, j) for n, j in enumerate(jobs)]
    dues += [(m.at_s, len(jobs) + n, m) for n, m in enumerate(moves)]
    for now_s, _, due in sorted(dues, key=lambda d: d[:2]):
        for engine in engines:
            events += engine.advance(now_s)
        if isinstance(due, Job):
            engines[where[due.request.request_id]].submit(due, now_s)
            continue
        source = where[due.request_id]
        try:
            progress = engines[source].abort(due.request_id, now_s)
        except KeyError:
            continue  # not there yet, or done
        if progress.generated_tokens:
            current[due.request_id] = current[due.request_id].resumed(progress.generated_tokens)
        engines[due.target].submit(current[due.request_id], now_s, progress.computed_tokens if copied else 0)
        where[due.request_id] = due.target
    for engine in engines:
        while engine.next_event_s() < math.inf:
            events += engine.advance(engine.next_event_s())
    deadline = {j.request.request_id: j.request.deadline_s for j in jobs}
    done = [e for e in events if e.kind is EventKind.FINISHED]
    return {e.request_id for e in done if e.time_s <= deadline[e.request_id]}
