"""A few runs and the digest of everything each leaves, as JSON: run by test_compiled.py, from source and compiled."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator

import numpy as np

import gsim
from gsim.cluster import InstanceSpec, RunResult, Scenario, TelemetryConfig, simulate
from gsim.core import Job, Request, Session, Streams, build
from gsim.engine import EngineConfig
from gsim.latency import load_profile
from gsim.migration import LinkConfig

GPUS = ("v100", "a40", "a800", "h800")


def pool(**engine: object) -> tuple[InstanceSpec, ...]:
    """The paper's four GPUs."""
    return tuple(
        InstanceSpec(gpu, load_profile(f"{gpu}-llama-3.1-8b"), EngineConfig(**engine))  # type: ignore[arg-type]
        for gpu in GPUS
    )


def singles(n: int, rate_per_s: float) -> Iterator[Session]:
    """Single requests of three priorities, long enough to be preempted where KV is tight."""
    rng = np.random.default_rng(7)
    for i, at in enumerate(np.cumsum(rng.exponential(1 / rate_per_s, n))):
        request = Request(i, float(at), int(rng.integers(20, 900)), 1 << 16, 8.0, session_id=i, priority=i % 3)
        yield Session(i, float(at), (Job(request, int(rng.integers(1, 400))),))


def agents(requests: int) -> Iterator[Session]:
    """Closed-loop sessions with shared prefixes."""
    trace = build("trace", "mix", rate_per_s=20.0, requests=requests)
    yield from trace.sessions(Streams(3), build("slo", "fixed", seconds=30.0))


def scenario(instances: tuple[InstanceSpec, ...], router: str = "round_robin", moves: str | None = None) -> Scenario:
    """A pool under a router, with a rectifier and a mechanism of migration where ``moves`` names one."""
    return Scenario(
        instances=instances,
        router=build("router", router),
        predictor=build("predictor", "class_mean"),
        estimator=build("estimator", "ema"),
        rectifier=build("rectifier", "risk_monitor") if moves else None,
        mechanism=build("mechanism", moves) if moves else None,
        link=LinkConfig() if moves else None,
        telemetry=TelemetryConfig(sample_interval_s=1.0),
    )


def digest(result: RunResult) -> str:
    """A digest of every column and count."""
    made = hashlib.sha256(repr([dataclasses.astuple(i) for i in result.instances]).encode())
    made.update(repr((result.duration_s, sorted(result.counters.items()))).encode())
    for table in (result.requests, result.sessions, result.samples, result.moves):
        for name, column in sorted(table.items()):
            made.update(name.encode() + (column.tobytes() if column.dtype != object else repr(list(column)).encode()))
    return made.hexdigest()


def main() -> dict[str, object]:
    """Whether gsim is compiled, and each run's digest and number of preemptions."""
    tight = {"kv_blocks": 200, "max_model_len": 2000}
    runs = {
        "plain": simulate(scenario(pool()), singles(400, 20), 0),
        "tight": simulate(scenario(pool(**tight)), singles(300, 20), 0),
        "priority": simulate(scenario(pool(**tight, policy="priority")), singles(300, 20), 0),
        "chunks": simulate(scenario(pool(long_prefill_token_threshold=128, watermark=0.02)), singles(200, 20), 0),
        "stepwise": simulate(scenario(pool(**tight, name="stepwise")), singles(100, 20), 0),
        "goodserve": simulate(scenario(pool(), "goodserve", "token_ids"), singles(400, 60), 0),
        "agents": simulate(scenario(pool(), "cache_aware", "kv_copy"), agents(300), 0),
    }
    preemptions = {name: sum(i.preemptions for i in result.instances) for name, result in runs.items()}
    moves = sum(int(result.requests["migrations"].sum()) for result in runs.values())
    return {
        "compiled": gsim.compiled,
        "why": gsim.compiled_why,
        "digests": {name: digest(result) for name, result in runs.items()},
        "preemptions": preemptions,
        "moves": moves,
    }


if __name__ == "__main__":
    print(json.dumps(main()))
