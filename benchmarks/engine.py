"""What the decode clock gains over one iteration at a time: ``python -m benchmarks.engine [requests=20000]``.

64 instances (equal shares of the paper's four GPUs, Llama-3.1-8B), Poisson arrivals at 160 requests/s, 100 prompt and
100 to 500 output tokens, spread round robin. The engines are driven from event to event without cluster or clock, so
the ratio is theirs alone; a second table runs the same load through the whole simulator. CPU time of this process, all
within one run: compare ratios, not microseconds. The last line is one JSON object.
"""

from __future__ import annotations

import collections
import gc
import json
import signal
import sys
import time
from collections.abc import Callable
from heapq import heappop, heappush
from types import FrameType

import numpy as np
import simpy

import gsim
from benchmarks.options import read_options
from benchmarks.work import pool, scenario, sessions
from gsim.cluster import simulate
from gsim.core import EngineEvent, EventKind, Job, Request
from gsim.engine import EngineConfig, make_engine
from gsim.latency import load_profile

INSTANCES, RATE_PER_S = 64, 160.0


def jobs(requests: int, stretch: int, seed: int = 0) -> list[Job]:
    """The load; ``stretch`` makes outputs longer and arrivals rarer alike, so that as many run at a time."""
    rng = np.random.default_rng(seed)
    arrivals_s = np.cumsum(rng.exponential(stretch / RATE_PER_S, requests))
    outputs = stretch * rng.integers(100, 501, requests)
    return [Job(Request(i, float(arrivals_s[i]), 100, int(outputs[i]), 6.0), int(outputs[i])) for i in range(requests)]


def drive(name: str, load: list[Job]) -> tuple[float, int]:
    """CPU seconds of 64 engines that serve ``load``, and how many events they told."""
    engines = [make_engine(name, spec.profile.latency, spec.limits) for spec in pool(INSTANCES, name)]
    due_s = [float("inf")] * INSTANCES
    queue: list[tuple[float, int]] = []
    told = 0

    def arm(index: int) -> None:
        next_s = engines[index].next_event_s()
        if next_s != due_s[index]:
            due_s[index] = next_s
            if next_s < float("inf"):
                heappush(queue, (next_s, index))

    def run_until(now_s: float) -> int:
        events = 0
        while queue and queue[0][0] <= now_s:
            time_s, index = heappop(queue)
            if time_s == due_s[index]:
                events += len(engines[index].advance(time_s))
                arm(index)
        return events

    gc.collect()
    start_s = time.process_time()
    for number, job in enumerate(load):
        now_s = job.request.arrival_s
        told += run_until(now_s)
        engines[number % INSTANCES].submit(job, now_s)
        arm(number % INSTANCES)
    told += run_until(float("inf"))
    return time.process_time() - start_s, told


def mean_e2e_s(cpu_schedule_s: float, asynchronous: bool, requests: int = 2000) -> float:
    """Mean end-to-end seconds on one A40 at 2 requests/s, with so much scheduling time per iteration."""
    profile = load_profile("a40-llama-3.1-8b")
    config = EngineConfig(cpu_schedule_s=cpu_schedule_s, async_scheduling=asynchronous)
    engine = make_engine(config.name, profile.latency, config.resolve(profile))
    total_s = 0.0
    for job in jobs(requests, 80):
        # 160 requests/s, 80 times rarer and with 80 times longer outputs: cut those back.
        job = job._replace(output_tokens=job.output_tokens // 80)
        total_s += finished_s(engine.advance(job.request.arrival_s)) - job.request.arrival_s
        engine.submit(job, job.request.arrival_s)
    while engine.next_event_s() < float("inf"):
        total_s += finished_s(engine.advance(engine.next_event_s()))
    return total_s / requests


def shared_prefixes(requests: int = 1500) -> tuple[float, float]:
    """CPU microseconds per request of sessions whose prompts grow turn by turn, and KV blocks per prompt."""
    profile = load_profile("h800-llama-3.1-8b")
    engine = make_engine("decode_clock", profile.latency, EngineConfig().resolve(profile))
    rng = np.random.default_rng(0)
    said: dict[int, tuple[tuple[int, int], ...]] = {}
    now_s = tokens = 0.0
    start_s = time.process_time()
    for number in range(requests):
        now_s += float(rng.exponential(1 / 3.0))
        session, output = int(rng.integers(40)), int(rng.integers(50, 400))
        before = said.get(session, ((session, 2000),))
        if sum(length for _, length in before) > 12_000:
            before = ((session, 2000),)
        content = (*before, (1000 + number, 300))
        said[session] = (*content, (1_000_000 + number, output))
        prompt = sum(length for _, length in content)
        tokens += prompt
        while engine.next_event_s() <= now_s:
            engine.advance(engine.next_event_s())
        engine.submit(
            Job(Request(number, now_s, prompt, output, 6.0, content=content), output, 1_000_000 + number), now_s
        )
    while engine.next_event_s() < float("inf"):
        engine.advance(engine.next_event_s())
    return 1e6 * (time.process_time() - start_s) / requests, tokens / requests / 16


def finished_s(events: list[EngineEvent]) -> float:
    """The sum of the times at which requests finished."""
    return sum(event.time_s for event in events if event.kind is EventKind.FINISHED)


def whole_run(name: str, requests: int) -> dict[str, float]:
    """CPU seconds and wake-ups of the whole simulator on the same load."""
    trace = sessions(requests, RATE_PER_S)
    built = scenario(pool(INSTANCES, name))
    gc.collect()
    start_s = time.process_time()
    result = simulate(built, iter(trace), 0)
    return {"cpu_s": time.process_time() - start_s, "wakeups": result.counters["wakeups"]}


def simpy_event_s(events: int) -> float:
    """CPU seconds of one bare SimPy timeout with a callback, with as many under way as there are instances."""
    env = simpy.Environment()
    left = [events]

    def again(_: simpy.Event) -> None:
        if left[0] > 0:
            left[0] -= 1
            simpy.Timeout(env, 1.0).callbacks.append(again)

    for _ in range(INSTANCES):
        again(env.event())
    start_s = time.process_time()
    env.run()
    return (time.process_time() - start_s) / events


def where(work: Callable[[], object], every_s: float = 0.001) -> dict[str, float]:
    """Shares of the CPU time of ``work`` by package, from samples of the innermost frame."""
    counts: collections.Counter[str] = collections.Counter()

    def sample(_: int, frame: FrameType | None) -> None:
        while frame is not None:
            name = str(frame.f_globals.get("__name__", ""))
            if name.startswith("gsim."):
                counts[".".join(name.split(".")[:2])] += 1
                return
            frame = frame.f_back

    before = signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, every_s, every_s)
    try:
        work()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)
    total = sum(counts.values())
    return {name: round(count / total, 3) for name, count in counts.most_common()}


def main(requests: int) -> dict[str, object]:
    """All of it; prints the tables on the way."""
    usual, long = jobs(requests, 1), jobs(requests, 10)
    # The fast one is short enough to be disturbed: the best of three counts.
    clock_s, told = min(drive("decode_clock", usual) for _ in range(3))
    long_s, _ = min(drive("decode_clock", long) for _ in range(3))
    stepwise_s, told_stepwise = drive("stepwise", usual)
    assert told == told_stepwise
    print(f"{'engine alone':<34}{'us/request':>12}{'ratio':>8}")
    for label, seconds, against in (
        ("stepwise", stepwise_s, clock_s),
        ("decode_clock", clock_s, clock_s),
        ("decode_clock, outputs 10 x longer", long_s, clock_s),
    ):
        print(f"{label:<34}{1e6 * seconds / requests:>12.1f}{seconds / against:>8.2f}")
    whole = whole_run("decode_clock", requests)
    whole_stepwise = whole_run("stepwise", requests)
    timeout_s = simpy_event_s(200_000)
    # What happens in simulated time: arrivals, and wake-ups of instances.
    events = requests + whole["wakeups"]
    event_s = whole["cpu_s"] / events
    print(f"\n{'whole simulator':<34}{'us/request':>12}{'ratio':>8}")
    for label, run in (("stepwise", whole_stepwise), ("decode_clock", whole)):
        print(f"{label:<34}{1e6 * run['cpu_s'] / requests:>12.1f}{run['cpu_s'] / whole['cpu_s']:>8.2f}")
    print(f"\nan event: {1e6 * event_s:.1f} us ({events:.0f} events); a bare one of SimPy's: {1e6 * timeout_s:.1f} us")
    # Samples see Python's frames only: none of compiled code.
    shares = {} if gsim.compiled else where(lambda: [whole_run("decode_clock", requests) for _ in range(3)])
    if shares:
        print("where the time goes: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items()))
    sharing_us, blocks = shared_prefixes()
    print(f"prompts of {blocks:.0f} KV blocks with shared prefixes: {sharing_us:.0f} us per request")
    e2e_s = {
        "in the profile": mean_e2e_s(0.0, True),
        "2 ms asynchronous": mean_e2e_s(0.002, True),
        "2 ms synchronous": mean_e2e_s(0.002, False),
    }
    print("mean E2E by scheduling time: " + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in e2e_s.items()))
    return {
        "requests": requests,
        "mean_e2e_s": e2e_s,
        "shared_prefix_us_per_request": sharing_us,
        "shared_prefix_blocks": blocks,
        "stepwise_over_decode_clock": stepwise_s / clock_s,
        "ten_times_longer_outputs": long_s / clock_s,
        "decode_clock_us_per_request": 1e6 * clock_s / requests,
        "stepwise_us_per_request": 1e6 * stepwise_s / requests,
        "whole_stepwise_over_decode_clock": whole_stepwise["cpu_s"] / whole["cpu_s"],
        "whole_us_per_request": 1e6 * whole["cpu_s"] / requests,
        "event_us": 1e6 * event_s,
        "simpy_event_us": 1e6 * timeout_s,
        "shares": shares,
    }


if __name__ == "__main__":
    options = read_options(sys.argv[1:], requests="20000")
    print(json.dumps(main(int(options["requests"]))))
