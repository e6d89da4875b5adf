"""What a larger pool costs per request: ``python -m benchmarks.growth [rate=2.5] [requests=60000] [repeats=5]``.

Round robin without a monitor, so many requests a second for each of 8, 32, 128 and 512 instances (2.5: as in common
work B), the same number of requests for all. Every size in a process of its own, sizes interleaved. Wall microseconds
per request, least and median, and each over that of 8 instances in the same round. The last line is one JSON object.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from benchmarks.options import read_options

SIZES = (8, 32, 128, 512)


def us_per_request(instances: int, rate: float, requests: int) -> float:
    """One run in a process of its own."""
    load = (f"instances={instances}", f"rps={rate * instances}", f"seconds={requests / (rate * instances)}")
    command = [sys.executable, "-m", "benchmarks.scale", "policies=0", *load]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["us_per_request"])


def main(arguments: list[str]) -> None:
    """Measure and print."""
    options = read_options(arguments, rate="2.5", requests="60000", repeats="5")
    rate, requests = float(options["rate"]), int(options["requests"])
    rounds = [{n: us_per_request(n, rate, requests) for n in SIZES} for _ in range(int(options["repeats"]))]
    print(f"{'instances':>10}{'least us':>10}{'median us':>10}{'median ratio':>14}")
    ratios = {}
    for n in SIZES:
        times = [each[n] for each in rounds]
        ratios[n] = statistics.median(each[n] / each[SIZES[0]] for each in rounds)
        print(f"{n:>10}{min(times):>10.2f}{statistics.median(times):>10.2f}{ratios[n]:>14.2f}")
    print(json.dumps({"rate_per_instance": rate, "growth": {str(n): round(ratio, 3) for n, ratio in ratios.items()}}))


if __name__ == "__main__":
    main(sys.argv[1:])
