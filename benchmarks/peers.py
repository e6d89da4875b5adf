"""The common works against the simulators that pip installs: ``python -m benchmarks.peers [A B]`` or ``C FILE``.

Each peer lives in an environment of its own under ``.venv-peers``, made on first use: ai-dynamo 1.6.1 (its replay is
written in Rust) and sched-sim 0.2.1 (Python; it simulates one instance, so a work's requests are dealt round robin and
the instances run one after another). Every simulator gets the same trace and times its own event loop; rounds are
interleaved, so a machine that drifts drifts for all. Their latency models differ from ours: the comparison is of
requests simulated per second, not of results. The last line is one JSON object.

A and B: wall time. C FILE (a recorded Mooncake trace, ``block_size=16`` or another): Dynamo alone, with the same KV
blocks, batch limits and instances, by round robin and by a router that looks for cached prefixes (``cache_aware``,
Dynamo's KV router); CPU time, and the share of prompt tokens that each found cached.
"""

from __future__ import annotations

import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from benchmarks.contexts import RECORDED_INSTANCES, recorded_scenario
from benchmarks.options import read_options
from benchmarks.work import WORKS, sessions

HOME = Path(__file__).resolve().parents[1] / ".venv-peers"

#: ai-dynamo's own requirements include packages that no registry here has; the replay needs only these.
PEERS = {
    "dynamo": (
        ["--no-deps", "ai-dynamo==1.6.1", "ai-dynamo-runtime==1.6.1"],
        ["pydantic<2.13.6", "uvloop", "numpy", "pyyaml", "msgspec", "packaging"],
    ),
    "sched-sim": (["sched-sim==0.2.1"], []),
}

DYNAMO = """
import json, sys, time
from dynamo.replay.api import run_trace_replay
start = time.perf_counter()
report = run_trace_replay(sys.argv[1], num_workers=int(sys.argv[2]), trace_block_size=512)
outer_s = time.perf_counter() - start
summary = (report if isinstance(report, dict) else vars(report))["summary"]
assert summary["completed_requests"] == int(sys.argv[3]), summary
print(json.dumps({"wall_s": summary["wall_time_ms"] / 1000, "outer_s": outer_s}))
"""

# One thread works, so what its own wall time holds beside CPU time is the time in which others had the core.
DYNAMO_CONTEXTS = """
import json, sys, time
from dynamo.mocker.config import normalize_mocker_config
from dynamo.replay.api import run_trace_replay
limits = normalize_mocker_config({"engine": json.loads(sys.argv[3])})
start, cpu = time.perf_counter(), time.process_time()
report = run_trace_replay(sys.argv[1], num_workers=int(sys.argv[2]), trace_block_size=512, extra_engine_args=limits,
                          router_mode=sys.argv[4])
idle_s = max(time.perf_counter() - start - (time.process_time() - cpu), 0.0)
summary = report.summary
assert summary["completed_requests"] == summary["num_requests"], summary
print(json.dumps({"cpu_s": summary["wall_time_ms"] / 1000 - idle_s, "requests": summary["num_requests"],
                  "cached_fraction": summary["prefix_cache_reused_ratio"]}))
"""

#: Our router, and how Dynamo names the like of it.
ROUTERS = {"round_robin": "round_robin", "cache_aware": "kv_router"}

SCHED_SIM = """
import json, sys, time
from sched_sim.core.event_engine import Simulator
from sched_sim.core.request import Request
from sched_sim.hardware.presets import get_hardware_profile
from sched_sim.schedulers.factory import create_scheduler
instances = int(sys.argv[2])
rows = [json.loads(line) for line in open(sys.argv[1])]
wall_s = 0.0
done = 0
for i in range(instances):
    hardware = get_hardware_profile("a100")
    simulator = Simulator(hardware, create_scheduler("chunked", hardware, token_budget=2048))
    requests = [
        Request(request_id=str(k), arrived_at=row["timestamp"] / 1000, prompt_tokens=row["input_length"],
                output_tokens=row["output_length"])
        for k, row in list(enumerate(rows))[i::instances]
    ]
    simulator.submit_workload(requests)
    start = time.perf_counter()
    simulator.run()
    wall_s += time.perf_counter() - start
    done += sum(1 for request in requests if request.is_finished)
assert done == int(sys.argv[3]), done
print(json.dumps({"wall_s": wall_s}))
"""

SCRIPTS = {"dynamo": DYNAMO, "sched-sim": SCHED_SIM}


def environment(peer: str) -> Path:
    """The peer's Python, installed on first use."""
    folder = HOME / peer
    python = folder / "bin" / "python"
    stamp = folder / ".installed"
    wanted = json.dumps(PEERS[peer])
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {peer} ...", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        for packages in PEERS[peer]:
            if packages:
                subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        stamp.write_text(wanted)
    return python


def write_trace(path: Path, requests: int, rate_per_s: float) -> None:
    """The work as Mooncake JSONL, which all peers can be given."""
    with path.open("w") as file:
        for session in sessions(requests, rate_per_s):
            job = session.jobs[0]
            row = {
                "timestamp": round(1000 * session.arrival_s),
                "input_length": job.request.prompt_tokens,
                "output_length": job.output_tokens,
                "hash_ids": [session.session_id],
            }
            file.write(json.dumps(row) + "\n")


def _last_json(command: list[str | Path]) -> dict[str, float]:
    # Dynamo's KV router would log a line per request.
    quiet = {**os.environ, "DYN_LOG": "warn"}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, env=quiet)
    if done.returncode:
        sys.exit(f"{' '.join(str(part) for part in command[:3])} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(work: str, rounds: int = 3) -> dict[str, float]:
    """Requests simulated per wall second, by simulator (medians over interleaved rounds)."""
    requests, instances, rate = WORKS[work]
    speeds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.jsonl"
        write_trace(trace, requests, rate)
        for _ in range(rounds):
            ours = _last_json([sys.executable, "-m", "benchmarks.work", work])
            speeds.setdefault("gsim", []).append(ours["requests_per_s"])
            for peer, script in SCRIPTS.items():
                row = _last_json([environment(peer), "-c", script, trace, str(instances), str(requests)])
                speeds.setdefault(peer, []).append(requests / row["wall_s"])
    return {name: statistics.median(values) for name, values in speeds.items()}


def compare_contexts(path: str, block_size: int, rounds: int = 3) -> dict[str, dict[str, float]]:
    """Work C by router: requests simulated per CPU second here and there (medians), and the shares found cached."""
    limits = recorded_scenario(block_size, "round_robin").instances[0].limits
    asked = {
        "block_size": block_size,
        "num_gpu_blocks": limits.kv_blocks,
        "max_num_seqs": limits.max_num_seqs,
        "max_num_batched_tokens": limits.max_num_batched_tokens,
    }
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.jsonl"
        raw = Path(path).read_bytes()
        trace.write_bytes(gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw)
        for router, theirs in ROUTERS.items():
            ours = [sys.executable, "-m", "benchmarks.work", "C", trace, f"block_size={block_size}", f"router={router}"]
            dynamo = [environment("dynamo"), "-c", DYNAMO_CONTEXTS, trace, str(RECORDED_INSTANCES), json.dumps(asked)]
            pairs = [(_last_json(ours), _last_json([*dynamo, theirs])) for _ in range(rounds)]
            found[router] = {
                "gsim": statistics.median(row["requests"] / row["cpu_s"] for row, _ in pairs),
                "dynamo": statistics.median(row["requests"] / row["cpu_s"] for _, row in pairs),
                "ratio": statistics.median(
                    theirs["cpu_s"] * row["requests"] / (row["cpu_s"] * theirs["requests"]) for row, theirs in pairs
                ),
                "gsim_cached_fraction": pairs[0][0]["cached_fraction"],
                "dynamo_cached_fraction": pairs[0][1]["cached_fraction"],
            }
    return found


def main(arguments: list[str]) -> None:
    """Print a table, then one JSON object."""
    if arguments and arguments[0].upper() == "C":
        _main_contexts(arguments[1:])
        return
    works = [name.upper() for name in arguments] or list(WORKS)
    if unknown := sorted(set(works) - set(WORKS)):
        sys.exit(f"unknown work {unknown[0]}; there are: {', '.join(WORKS)}, and C FILE")
    result: dict[str, dict[str, float]] = {}
    for work in works:
        speeds = compare(work)
        fastest = max(speed for name, speed in speeds.items() if name != "gsim")
        result[work] = {**speeds, "ratio_to_fastest_peer": speeds["gsim"] / fastest}
        for name, speed in speeds.items():
            print(f"{work}  {name:10s} {speed:10,.0f} requests/s   gsim is {speeds['gsim'] / speed:6.1f} x")
    print(json.dumps(result))


def _main_contexts(arguments: list[str]) -> None:
    if not arguments or not Path(arguments[0]).is_file():
        sys.exit("usage: python -m benchmarks.peers C FILE [block_size=16] [rounds=3]; FILE is a Mooncake trace")
    options = read_options(arguments[1:], block_size="16", rounds="3")
    found = compare_contexts(arguments[0], int(options["block_size"]), int(options["rounds"]))
    print(f"{'router':14}{'gsim':>10}{'Dynamo':>10}{'ratio':>8}{'cached, gsim':>14}{'Dynamo':>10}")
    for router, row in found.items():
        print(
            f"{router:14}{row['gsim']:>10,.0f}{row['dynamo']:>10,.0f}{row['ratio']:>8.2f}"
            f"{row['gsim_cached_fraction']:>14.4f}{row['dynamo_cached_fraction']:>10.4f}"
        )
    print(json.dumps({"block_size": int(options["block_size"]), **found}))


if __name__ == "__main__":
    main(sys.argv[1:])
