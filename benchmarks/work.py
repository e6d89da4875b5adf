"""Common work A and B, ours alone: ``python -m benchmarks.work A`` (or B).

A: 600 requests on 4 instances at 10 requests/s. B: 20,000 requests on 64 instances at 160 requests/s. Poisson
arrivals, 100 prompt tokens, 100 to 500 output tokens. The event loop is timed, with KV blocks and records on; making
the trace, importing and reading profiles are not. The last line is one JSON object.
"""

from __future__ import annotations

import gc
import json
import resource
import statistics
import sys
import time

from gsim.cluster import InstanceSpec, Scenario, simulate
from gsim.core import Session, Streams, build
from gsim.engine import EngineConfig
from gsim.latency import load_profile

WORKS = {"A": (600, 4, 10.0), "B": (20_000, 64, 160.0)}
GPUS = ("v100", "a40", "a800", "h800")


def pool(instances: int, engine: str = "decode_clock") -> tuple[InstanceSpec, ...]:
    """Equal shares of the paper's four GPUs, serving Llama-3.1-8B."""
    profiles = {gpu: load_profile(f"{gpu}-llama-3.1-8b") for gpu in GPUS}
    config = EngineConfig(name=engine)
    names = [GPUS[i % len(GPUS)] for i in range(instances)]
    return tuple(InstanceSpec(f"{gpu}-{i}", profiles[gpu], config) for i, gpu in enumerate(names))


def sessions(requests: int, rate_per_s: float, seed: int = 0, **fields: object) -> list[Session]:
    """The paper's shape, made before the clock is looked at."""
    trace = build("trace", "paper", rate_per_s=rate_per_s, requests=requests, **fields)
    return list(trace.sessions(Streams(seed), build("slo", "fixed", seconds=6.0)))


def scenario(instances: tuple[InstanceSpec, ...], router: str = "round_robin", predictor: str = "constant") -> Scenario:
    """A pool under a router, with the default telemetry."""
    return Scenario(
        instances=instances,
        router=build("router", router),
        predictor=build("predictor", predictor),
        estimator=build("estimator", "ema"),
    )


def measure(work: str, repeats: int = 5, engine: str = "decode_clock") -> dict[str, float | int | str]:
    """Median wall time of a work's event loop over some repeats."""
    requests, instances, rate = WORKS[work]
    trace = sessions(requests, rate)
    walls: list[float] = []
    for _ in range(repeats):
        built = scenario(pool(instances, engine))
        gc.collect()
        start = time.perf_counter()
        result = simulate(built, iter(trace), 0)
        walls.append(time.perf_counter() - start)
    wall_s = statistics.median(walls)
    return {
        "work": work,
        "requests": requests,
        "output_tokens": int(result.requests["generated_tokens"].sum()),
        "sim_wall_s": wall_s,
        "sim_wall_s_min": min(walls),
        "sim_wall_s_max": max(walls),
        "requests_per_s": requests / wall_s,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    name = sys.argv[1].upper() if len(sys.argv) > 1 else ""
    if name not in WORKS:
        sys.exit(f"usage: python -m benchmarks.work {{{','.join(WORKS)}}}")
    print(json.dumps(measure(name, repeats=15 if name == "A" else 3)))
