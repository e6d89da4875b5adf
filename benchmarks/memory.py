"""Memory of a long agentic run: ``python -m benchmarks.memory [requests=1000000] [block_size=16] [router=goodserve]``.

Work D's mix, pool and policies (``benchmarks.contexts``), sessions drawn while the clock runs, as they are for a user.
Resident memory at every tenth of the sessions' requests, and how much it grows per request in the second half: a row of
records takes 145 bytes, and nothing else may stay. The last line is one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.contexts import AGENTS_RPS, OBJECTIVES_S, agent_scenario
from benchmarks.options import read_options
from gsim.cluster import simulate
from gsim.core import Session, Streams, build

_PAGE = 4096


def resident_mb() -> float:
    """Megabytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 1e6


class Watched:
    """Sessions on their way into a run; looks at the memory whenever another tenth of the requests has arrived."""

    def __init__(self, sessions: Iterator[Session], requests: int) -> None:
        self._sessions = sessions
        self._step = max(requests // 10, 1)
        self.seen: list[tuple[int, float]] = []
        """(requests of the sessions that have begun, resident megabytes)."""

    def __iter__(self) -> Iterator[Session]:
        """The sessions, in order."""
        begun, due = 0, self._step
        for session in self._sessions:
            yield session
            begun += len(session.jobs)
            if begun >= due:
                due += self._step
                self.seen.append((begun, resident_mb()))


def main(arguments: list[str]) -> None:
    """Measure and print."""
    options = read_options(arguments, requests="1000000", block_size="16", router="goodserve")
    requests = int(options["requests"])
    trace = build("trace", "mix", rate_per_s=AGENTS_RPS, requests=requests)
    slo = build("slo", "per_class", seconds=OBJECTIVES_S, other_s=6.0)
    watched = Watched(trace.sessions(Streams(0), slo), requests)
    begin_s = time.process_time()
    result = simulate(agent_scenario(int(options["block_size"]), options["router"]), iter(watched), 0)
    cpu_s = time.process_time() - begin_s
    print(f"{'requests':>12}{'resident MB':>14}")
    for begun, megabytes in watched.seen:
        print(f"{begun:>12,}{megabytes:>14.0f}")
    (half, half_mb), (whole, whole_mb) = watched.seen[len(watched.seen) // 2 - 1], watched.seen[-1]
    grown = 1e6 * (whole_mb - half_mb) / (whole - half)
    print(f"grown by {grown:.0f} bytes per request in the second half")
    ended = len(result.requests["finished_s"])
    row = {"requests": ended, "cpu_us_per_request": 1e6 * cpu_s / ended, "grown_bytes_per_request": grown}
    print(json.dumps({**row, "resident_mb": whole_mb}))


if __name__ == "__main__":
    main(sys.argv[1:])
