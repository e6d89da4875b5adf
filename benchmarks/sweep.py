"""What a second worker gains, and how long a start takes.

``python -m benchmarks.sweep [repeats=3] [requests=20000] [seeds=5]``: a sweep of eight cells (two routers at four
rates, so many requests and seeds each) through the whole command line with one and with two workers, interleaved, each
into an empty folder; and one run of ten requests: start-up and little else. Wall times of whole processes. The last
line is one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time

from benchmarks.options import read_options

SWEEP = ("router=least_load,round_robin", "trace=paper", "trace.rate_per_s=60,70,80,90")


def wall_s(*words: str) -> float:
    """Seconds of one command, results in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        command = [sys.executable, "-m", "gsim", *words, f"out={out}"]
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start


def main(arguments: list[str]) -> None:
    """Measure and print."""
    options = read_options(arguments, repeats="3", requests="20000", seeds="5")
    repeats = int(options["repeats"])
    sweep = (*SWEEP, f"trace.requests={options['requests']}", f"seeds={options['seeds']}")
    one, two, first = [], [], []
    for _ in range(repeats):
        one.append(wall_s(*sweep, "hydra.launcher.n_jobs=1"))
        two.append(wall_s(*sweep, "hydra.launcher.n_jobs=2"))
        first.append(wall_s("trace.requests=10", "seeds=1"))
    figures = {
        "one_worker_s": min(one),
        "two_workers_s": min(two),
        "ratio": min(one) / min(two),
        "ten_requests_s": min(first),
    }
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))


if __name__ == "__main__":
    main(sys.argv[1:])
