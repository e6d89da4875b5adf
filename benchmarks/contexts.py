"""Common works C and D: long prompts that share prefixes, as agents and conversations send them.

C replays a recorded Mooncake trace (JSON lines, 512-token block ids) on eight h800-llama-3.1-8b, arrivals as recorded,
prefix caching on. D is the agentic mix at 30 requests/s on the paper's pool with all of GoodServe. Both count CPU time
of the event loop alone: reading or drawing sessions is done before.
"""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gsim.cluster import InstanceSpec, RunResult, Scenario, simulate
from gsim.core import Session, Streams, build
from gsim.engine import EngineConfig
from gsim.latency import load_profile

#: Work C's pool.
RECORDED_PROFILE = "h800-llama-3.1-8b"
RECORDED_INSTANCES = 8

#: Work D's pool, offered load and objectives (those of ``experiment=goodput_vs_rps``).
PAPER_GPUS = ("v100", "a40", "a800", "h800")
AGENTS_RPS = 30.0
OBJECTIVES_S = {"code_agent_light": 8.0, "sql_agent": 2.5, "math_agent": 6.0, "tool_agent": 4.0}
#: Sessions of the mix last up to 190 s: before this time the pool fills, and what a request costs still grows.
WARMUP_S = 200.0


@dataclass(frozen=True)
class Timed:
    """What a work's clock saw."""

    cpu_s: float
    wall_s: float
    requests: int
    """Requests that ended while the clock ran."""
    cached_fraction: float
    """Of their prompt tokens, how many the prefix cache held (requests that were moved left out)."""


class Clocked:
    """Sessions on their way into a run, with two marks: the clock runs from the first of them to the last.

    A run pulls a session when the one before it has arrived, so a mark lies at a simulated time and at a CPU time.
    Between them the pool neither fills nor empties, which is what a request costs in steady state.
    """

    def __init__(self, sessions: Sequence[Session], from_s: float) -> None:
        self._sessions = sessions
        self._from_s = from_s
        self.marks: list[tuple[float, float, float]] = []
        """(simulated, CPU, wall) seconds of the two marks."""

    def __iter__(self) -> Iterator[Session]:
        """The sessions; noting both marks in passing."""
        last_s = 0.0
        for session in self._sessions:
            if not self.marks and session.arrival_s >= self._from_s:
                self._mark(last_s)
            last_s = session.arrival_s
            yield session
        self._mark(last_s)

    def _mark(self, simulated_s: float) -> None:
        self.marks.append((simulated_s, time.process_time(), time.perf_counter()))

    def timed(self, result: RunResult) -> Timed:
        """What ended between the marks of a finished run, and what it took."""
        (begin_s, cpu_begin, wall_begin), (end_s, cpu_end, wall_end) = self.marks
        ended_s = result.requests["finished_s"]
        inside = (ended_s > begin_s) & (ended_s <= end_s)
        return Timed(cpu_end - cpu_begin, wall_end - wall_begin, int(inside.sum()), _cached_fraction(result, inside))


def _cached_fraction(result: RunResult, rows: np.ndarray) -> float:
    kept = rows & (result.requests["migrations"] == 0)
    return float(result.requests["cached_tokens"][kept].sum() / result.requests["prompt_tokens"][kept].sum())


def recorded_sessions(path: str) -> list[Session]:
    """The trace's requests at their recorded times (which the released files count in steps of 3 s)."""
    trace = build("trace", "mooncake", path=path, equal_times="allow")
    return list(trace.sessions(Streams(0), build("slo", "fixed", seconds=30.0)))


def recorded_scenario(block_size: int, router: str) -> Scenario:
    """Eight equal instances under a router, nobody watching."""
    profile, engine = load_profile(RECORDED_PROFILE), EngineConfig(block_size=block_size)
    return Scenario(
        instances=tuple(InstanceSpec(f"h800-{i}", profile, engine) for i in range(RECORDED_INSTANCES)),
        router=build("router", router),
        predictor=build("predictor", "constant"),
        estimator=build("estimator", "ema"),
    )


def agent_sessions(requests: int) -> list[Session]:
    """Sessions of the default mix: the warm-up's requests, and as many as are to be timed."""
    trace = build("trace", "mix", rate_per_s=AGENTS_RPS, requests=int(AGENTS_RPS * WARMUP_S) + requests)
    slo = build("slo", "per_class", seconds=OBJECTIVES_S, other_s=6.0)
    return list(trace.sessions(Streams(0), slo))


def agent_scenario(block_size: int, router: str) -> Scenario:
    """The paper's four cards under a router, with the monitor that moves requests."""
    engine = EngineConfig(block_size=block_size)
    profiles = {gpu: load_profile(f"{gpu}-llama-3.1-8b") for gpu in PAPER_GPUS}
    return Scenario(
        instances=tuple(InstanceSpec(gpu, profile, engine) for gpu, profile in profiles.items()),
        router=build("router", router),
        predictor=build("predictor", "noisy"),
        estimator=build("estimator", "ema"),
        rectifier=build("rectifier", "risk_monitor"),
        mechanism=build("mechanism", "token_ids"),
    )


def measure(
    work: str, path: str | None, *, block_size: int = 16, router: str | None = None, requests: int = 30_000,
    repeats: int = 1,
) -> dict[str, float | int | str]:  # fmt: skip
    """Work C (of a trace file) or D, a row of figures: medians of the repeats' times."""
    if work == "C":
        assert path is not None
        sessions, warmup_s = recorded_sessions(path), 0.0
        policy, make = router or "round_robin", recorded_scenario
    else:
        sessions, warmup_s = agent_sessions(requests), WARMUP_S
        policy, make = router or "goodserve", agent_scenario
    runs = [_once(make(block_size, policy), sessions, warmup_s) for _ in range(repeats)]
    cpu_s = statistics.median(run.cpu_s for run in runs)
    timed = runs[0]
    return {
        "work": work,
        "router": policy,
        "block_size": block_size,
        "requests": timed.requests,
        "cpu_s": cpu_s,
        "wall_s": statistics.median(run.wall_s for run in runs),
        "requests_per_s": timed.requests / cpu_s,
        "cached_fraction": timed.cached_fraction,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _once(scenario: Scenario, sessions: Sequence[Session], warmup_s: float) -> Timed:
    """One run; without a warm-up all of it is timed, to the end of its last request."""
    gc.collect()
    if warmup_s:
        clocked = Clocked(sessions, warmup_s)
        return clocked.timed(simulate(scenario, iter(clocked), 0))
    cpu_begin, wall_begin = time.process_time(), time.perf_counter()
    result = simulate(scenario, iter(sessions), 0)
    cpu_s, wall_s = time.process_time() - cpu_begin, time.perf_counter() - wall_begin
    everything = np.ones(len(result.requests["finished_s"]), dtype=bool)
    return Timed(cpu_s, wall_s, len(everything), _cached_fraction(result, everything))
