"""Whole-run speed at scale: ``python -m benchmarks.scale [instances=512] [rps=10000] [seconds=30]``.

All of GoodServe is on: ``router=goodserve``, ``rectifier=risk_monitor``, the ``noisy`` predictor, telemetry at 50 ms,
records per request. The trace streams while the clock runs, as it does for a user. The last line is one JSON object.
"""

from __future__ import annotations

import json
import resource
import sys
import time

from benchmarks.options import read_options
from benchmarks.work import pool
from gsim.cluster import InstanceSpec, Scenario, TelemetryConfig, simulate
from gsim.core import Streams, build


def scenario(instances: tuple[InstanceSpec, ...], *, policies: bool) -> Scenario:
    """All of GoodServe; without ``policies`` the router is round robin and nobody watches."""
    return Scenario(
        instances=instances,
        router=build("router", "goodserve" if policies else "round_robin"),
        predictor=build("predictor", "noisy" if policies else "constant"),
        estimator=build("estimator", "ema"),
        rectifier=build("rectifier", "risk_monitor" if policies else "none"),
        mechanism=build("mechanism", "token_ids"),
        telemetry=TelemetryConfig(interval_s=0.05),
    )


def measure(instances: int, rps: float, seconds: float, *, policies: bool = True, seed: int = 0) -> dict[str, float]:
    """One run."""
    trace = build("trace", "paper", rate_per_s=rps, requests=int(rps * seconds))
    built = scenario(pool(instances), policies=policies)
    sessions = trace.sessions(Streams(seed), build("slo", "fixed", seconds=6.0))
    start = time.perf_counter()
    result = simulate(built, sessions, seed)
    wall_s = time.perf_counter() - start
    requests = result.requests
    good = requests["finished_s"] - requests["arrival_s"] <= requests["slo_s"]
    return {
        "instances": instances,
        "rps": rps,
        "simulated_s": result.duration_s,
        "arrivals_s": seconds,
        "wall_s": wall_s,
        "simulated_s_per_wall_s": seconds / wall_s,
        "requests": len(good),
        "attainment": float(good.mean()),
        "migrations": result.counters.get("migrations", 0),
        "us_per_request": 1e6 * wall_s / len(good),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    options = read_options(sys.argv[1:], instances="512", rps="10000", seconds="30", policies="1")
    row = measure(
        int(options["instances"]), float(options["rps"]), float(options["seconds"]), policies=options["policies"] == "1"
    )
    print(json.dumps(row))
