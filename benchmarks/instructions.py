"""Instructions per request of a work's event loop: ``python -m benchmarks.instructions {A | B | C | D | scale}``.

Counted by valgrind (``callgrind``), so other work on the machine does not disturb them; judge ratios. Options:
``requests=`` (how many are simulated), ``block_size=16`` (C, D), ``trace=FILE`` (C), ``tree=.`` and ``python=``
(another checkout, and the interpreter of the environment in which it was compiled). The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.options import read_options

REQUESTS = {"A": 600, "B": 4000, "C": 2000, "D": 3000, "scale": 12_000}

#: Counted is what happens inside: the whole run, and nothing of imports or of drawing sessions.
COUNTED = "CPyDef_simulation____Run___result"

#: Run in the tree that is counted, with what its own benchmarks offer.
RUN = """
import sys
from gsim.cluster import simulate
from gsim.core import Streams, build
work, requests, block_size, trace = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if work in ("A", "B"):
    from benchmarks.work import WORKS, pool, scenario, sessions
    _, instances, rate = WORKS[work]
    built, load = scenario(pool(instances)), sessions(requests, rate)
elif work == "scale":
    from benchmarks.scale import scenario
    from benchmarks.work import pool
    built = scenario(pool(512), policies=True)
    slo = build("slo", "fixed", seconds=6.0)
    load = list(build("trace", "paper", rate_per_s=10_000.0, requests=requests).sessions(Streams(0), slo))
elif work == "C":
    from benchmarks.contexts import recorded_scenario, recorded_sessions
    built, load = recorded_scenario(block_size, "round_robin"), recorded_sessions(trace)[:requests]
else:
    from benchmarks.contexts import AGENTS_RPS, OBJECTIVES_S, agent_scenario
    built = agent_scenario(block_size, "goodserve")
    mix = build("trace", "mix", rate_per_s=AGENTS_RPS, requests=requests)
    load = list(mix.sessions(Streams(0), build("slo", "per_class", seconds=OBJECTIVES_S, other_s=6.0)))
print(len(simulate(built, iter(load), 0).requests["request_id"]))
"""


def count(
    work: str, requests: int, block_size: int, trace: str, tree: str, python: str
) -> dict[str, float | int | str]:
    """One run under valgrind."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "profile")
        counter = ["valgrind", "--tool=callgrind", f"--toggle-collect={COUNTED}", f"--callgrind-out-file={out}"]
        command = [*counter, python, "-c", RUN, work, str(requests), str(block_size), trace]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        ran = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=True)
        found = re.search(r"^summary: (\d+)", out.read_text(), re.MULTILINE)
    ended, instructions = int(ran.stdout.split()[-1]), int(found[1]) if found else 0
    if not instructions:
        sys.exit("nothing was counted: gsim must be compiled there (python -c 'import gsim; print(gsim.compiled_why)')")
    row = {"work": work, "requests": ended, "block_size": block_size, "instructions_per_request": instructions / ended}
    return {**row, "tree": tree}


def main(arguments: list[str]) -> None:
    """Count the work that the command line names, and print."""
    work = next((name for name in REQUESTS if arguments and name.lower() == arguments[0].lower()), None)
    if work is None:
        sys.exit("usage: python -m benchmarks.instructions {A | B | C | D | scale} [OPTION=VALUE ...]")
    options = read_options(
        arguments[1:], requests=str(REQUESTS[work]), block_size="16", trace="", tree=".", python=sys.executable
    )
    if work == "C" and not options["trace"]:
        sys.exit("C needs trace=FILE, a Mooncake trace")
    numbers = int(options["requests"]), int(options["block_size"])
    print(json.dumps(count(work, *numbers, options["trace"], options["tree"], options["python"])))


if __name__ == "__main__":
    main(sys.argv[1:])
