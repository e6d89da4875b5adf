"""The common works, ours alone: ``python -m benchmarks.work A``, ``B``, ``C FILE`` or ``D``.

A: 600 requests on 4 instances at 10 requests/s. B: 20,000 requests on 64 instances at 160 requests/s. Poisson
arrivals, 100 prompt tokens that nobody shares, 100 to 500 output tokens. Wall time.

C FILE: a recorded Mooncake trace on 8 instances, prompts of thousands of tokens that share prefixes. D: the agentic mix
in steady state on the paper's pool at 30 requests/s, with all of GoodServe. CPU time; ``block_size=16``, ``router=``
(C: round_robin, D: goodserve), ``repeats=1`` and, for D, ``requests=30000`` are options (see ``benchmarks.contexts``).

The event loop is timed, with KV blocks and records on; making the trace, importing and reading profiles are not. The
last line is one JSON object.
"""

from __future__ import annotations

import gc
import json
import resource
import statistics
import sys
import time

from benchmarks import contexts
from benchmarks.options import read_options
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


def main(arguments: list[str]) -> None:
    """Measure the work that the command line names, and print."""
    name = arguments[0].upper() if arguments else ""
    if name in WORKS and len(arguments) == 1:
        row = measure(name, repeats=15 if name == "A" else 3)
    elif name == "D" or (name == "C" and len(arguments) > 1):
        path, words = (arguments[1], arguments[2:]) if name == "C" else (None, arguments[1:])
        defaults = {"block_size": "16", "router": "", "repeats": "1"}
        options = read_options(words, **defaults, **({"requests": "30000"} if name == "D" else {}))
        row = contexts.measure(
            name,
            path,
            block_size=int(options["block_size"]),
            router=options["router"] or None,
            requests=int(options.get("requests", "0")),
            repeats=int(options["repeats"]),
        )
    else:
        sys.exit("usage: python -m benchmarks.work {A | B | C FILE | D} [OPTION=VALUE ...]; C needs a Mooncake trace")
    print(json.dumps(row))


if __name__ == "__main__":
    main(sys.argv[1:])
