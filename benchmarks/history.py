"""A row of benchmark history: ``GSIM_PURE=1 python -m benchmarks.history [write=1]``.

Counts and ratios only, so that rows of different machines can be compared: calls per request of common work B and of
a pool with all of GoodServe on, how many times the reference engine's CPU time the decode clock saves, and what the
policies cost on top of round robin. Prints the row beside the last one of ``benchmarks/history.csv``; ``write=1``
appends it. Exit status 1 where a count has grown by more than a tenth.
"""

from __future__ import annotations

import csv
import datetime
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.counting import calls
from benchmarks.scale import measure
from benchmarks.work import WORKS, pool, scenario, sessions
from gsim.cluster import simulate

HISTORY = Path(__file__).with_name("history.csv")
COUNTS = ("work_b_calls_per_request", "goodserve_calls_per_request")
MOST_GROWTH = 1.1


def row() -> dict[str, str | float]:
    """Measure."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip() or "unknown",
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "work_b_calls_per_request": round(work_b_calls(4000), 1),
        "goodserve_calls_per_request": round(calls(lambda: measure(64, 1250.0, 4.0)) / 5000, 1),
        "stepwise_over_decode_clock": round(cpu_s("stepwise") / cpu_s("decode_clock"), 1),
        "goodserve_over_round_robin": round(scale_us(policies=True) / scale_us(policies=False), 2),
    }


def work_b_calls(requests: int) -> float:
    """Calls per request of common work B, cut to so many requests."""
    _, instances, rate = WORKS["B"]
    trace, built = sessions(requests, rate), scenario(pool(instances))
    return calls(lambda: simulate(built, iter(trace), 0)) / requests


def cpu_s(engine: str) -> float:
    """CPU seconds of 2,000 requests of work B, the least of three runs."""
    _, instances, rate = WORKS["B"]
    trace = sessions(2000, rate)
    spent = []
    for _ in range(3):
        built = scenario(pool(instances, engine))
        start = time.process_time()
        simulate(built, iter(trace), 0)
        spent.append(time.process_time() - start)
    return min(spent)


def scale_us(*, policies: bool) -> float:
    """Microseconds of CPU per request on 64 instances, the least of three runs."""
    spent = []
    for _ in range(3):
        start = time.process_time()
        measure(64, 1250.0, 4.0, policies=policies)
        spent.append(time.process_time() - start)
    return 1e6 * min(spent) / 5000


def main(arguments: list[str]) -> int:
    """Measure, compare, perhaps append."""
    now = row()
    known = list(csv.DictReader(HISTORY.open())) if HISTORY.exists() else []
    last = known[-1] if known else {}
    for name, value in now.items():
        print(f"{name:28} {value!s:>12} {last.get(name, ''):>12}")
    if "write=1" in arguments:
        with HISTORY.open("a", newline="") as file:
            writer = csv.DictWriter(file, now, lineterminator="\n")
            if not known:
                writer.writeheader()
            writer.writerow(now)
    grown = [name for name in COUNTS if last and float(now[name]) > MOST_GROWTH * float(last[name])]
    for name in grown:
        print(f"{name} has grown by more than a tenth", file=sys.stderr)
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
