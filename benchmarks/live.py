"""What live serving costs and how exact it is, on this machine.

    python -m benchmarks.live engine [instances=8 rate=60 requests=600 speed=1 interval=1]
    python -m benchmarks.live gateway [requests=400 rate=20 tokens=300 policies=round_robin,goodserve+risk_monitor]
                                      [beside=URL@PID,URL]

``engine``: the same requests through a simulation and through emulated servers in a process of their own, without a
gateway: how far TPOT, E2E and TTFT are apart, the servers' CPU per event, and their lateness.
``gateway``: streaming chats to four emulated H800, directly and through the gateway under several policies: what the
gateway adds to TTFT, and its CPU per request and event. ``beside``: other gateways in front of servers on ports 8100 to
8103 (port=8100 starts them there), with the id of the process whose CPU is counted (without one it is not).
Both want a machine on which nothing else runs.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from gsim.cli.one import settings_of
from gsim.cluster import simulate
from gsim.emulate.config import EmulateConfig
from gsim.emulate.process import pool_process
from gsim.live.load import Load, LoadOptions

_TICKS_PER_S = 100


def cpu_s(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def children() -> set[int]:
    """Processes that this one has started."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def number(words: dict[str, str], name: str, default: float) -> float:
    """An option as a number."""
    return float(words.get(name, default))


def engine(words: dict[str, str]) -> None:
    """Emulated against simulated."""
    n, rate = int(number(words, "instances", 8)), number(words, "rate", 60)
    speed, interval = number(words, "speed", 1), int(number(words, "interval", 1))
    pool = f"pool.instances=[{{profile: h800-llama-3.1-8b, count: {n}}}]"
    load = [f"trace.rate_per_s={rate}", f"trace.requests={int(number(words, 'requests', 600))}"]
    settings = settings_of([pool, *load, "router=round_robin", "predictor=constant", "rectifier=none"])
    simulated = simulate(settings.scenario(), settings.sessions(0), 0).requests
    specs = settings.choices["pool"].build().build(settings.choices["engine"].build())
    before = children()
    with pool_process(specs, EmulateConfig(port=0, speed=speed)) as urls:
        # The process that serves, beside the one that keeps track of shared resources.
        pids = children() - before
        began_s, used_s = time.monotonic(), {pid: cpu_s(pid) for pid in pids}
        options = LoadOptions(urls, "llama-3.1-8b", speed, body={"stream_interval": interval}, warm=urls * 48)
        outcomes = asyncio.run(Load(settings.sessions(0), options).run())
        cpu = max(cpu_s(pid) - used_s[pid] for pid in pids)
        span_s = time.monotonic() - began_s
        late = asyncio.run(_lateness(urls[0]))
    failed = [outcome.error for outcome in outcomes if outcome.error]
    if failed:
        raise SystemExit(f"{len(failed)} requests failed: {failed[0]}")
    live = {
        "TTFT": np.array([o.first_token_s - o.arrival_s for o in outcomes]),
        "E2E": np.array([o.finished_s - o.arrival_s for o in outcomes]),
    }
    ours = {
        "TTFT": simulated["first_token_s"] - simulated["arrival_s"],
        "E2E": simulated["finished_s"] - simulated["arrival_s"],
    }
    tokens = simulated["output_tokens"]
    for side in (live, ours):
        side["TPOT"] = (side["E2E"] - side["TTFT"]) / (tokens - 1)
    events = tokens.sum() / interval
    apart = {name: 100 * (live[name].mean() / ours[name].mean() - 1) for name in ("TPOT", "E2E")}
    ttft_ms = 1e3 * (live["TTFT"].mean() - ours["TTFT"].mean()) / speed
    print(
        f"{n} instances, {rate:g}/s x {speed:g}: TPOT {apart['TPOT']:+.3f} %, E2E {apart['E2E']:+.3f} %, TTFT "
        f"{ttft_ms:+.2f} ms (of real time); {events / span_s:.0f} events/s, "
        f"{1e6 * cpu / events:.1f} us of CPU per event, {100 * cpu / span_s:.0f} % of a core; late {late}"
    )


async def _lateness(url: str) -> str:
    names = [f"gsim:lateness_seconds_{part}" for part in ("sum", "count")]
    query = "&".join(f"name[]={name}" for name in names)
    async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics?{query}") as response:
        samples = [line.split() for line in (await response.text()).splitlines() if line[0] != "#"]
    found = {name: float(value) for name, value in samples}
    return f"{1e3 * found[names[0]] / max(found[names[1]], 1):.2f} ms on average"


async def chats(http: aiohttp.ClientSession, urls: Sequence[str], words: dict[str, str]) -> tuple[Any, Any]:
    """Seconds to the first token and to the end of streaming chats with Poisson arrivals."""
    n, tokens, rate = int(number(words, "requests", 400)), int(number(words, "tokens", 300)), number(words, "rate", 20)
    rng, began_s, due_s = np.random.default_rng(1), time.monotonic(), 0.0
    first_s, whole_s = np.zeros(n), np.zeros(n)

    async def one(i: int) -> None:
        message = {"role": "user", "content": f"question {i} " + "word " * 60}
        body = {"model": "llama-3.1-8b", "messages": [message], "max_tokens": tokens, "ignore_eos": True}
        body |= {"stream": True, "temperature": 0}
        sent_s = time.monotonic()
        url = f"{urls[i % len(urls)]}/v1/chat/completions"
        async with http.post(url, json=body, headers={"x-slo-ms": "20000"}) as response:
            async for _ in response.content.iter_any():
                first_s[i] = first_s[i] or time.monotonic() - sent_s
        whole_s[i] = time.monotonic() - sent_s

    tasks = []
    for i in range(n):
        due_s += rng.exponential(1 / rate)
        await asyncio.sleep(max(began_s + due_s - time.monotonic(), 0))
        tasks.append(asyncio.create_task(one(i)))
    await asyncio.gather(*tasks)
    return first_s, whole_s


async def gateway(words: dict[str, str]) -> None:
    """Gateways beside a direct connection."""
    settings = settings_of(["pool.instances=[{profile: h800-llama-3.1-8b, count: 4}]"])
    specs = settings.choices["pool"].build().build(settings.choices["engine"].build())
    policies = words.get("policies", "round_robin,goodserve+risk_monitor").split(",")
    connector = aiohttp.TCPConnector(limit=0)
    with pool_process(specs, EmulateConfig(port=int(words.get("port", 0)))) as urls:
        async with aiohttp.ClientSession(connector=connector, read_bufsize=1 << 18) as http:
            await chats(http, urls, words)
            direct, _ = await chats(http, urls, words)
            print(f"direct: TTFT p50 {1e3 * np.median(direct):.2f} ms, p99 {1e3 * np.quantile(direct, 0.99):.2f} ms")
            for policy in policies:
                await _gsim(http, urls, policy, direct, words)
            for url in filter(None, words.get("beside", "").split(",")):
                await _beside(http, url, direct, words)


async def _beside(http: aiohttp.ClientSession, place: str, direct: Any, words: dict[str, str]) -> None:
    url, _, pid = place.partition("@")
    await chats(http, [url], words)
    used_s = cpu_s(int(pid)) if pid else 0.0
    first, _ = await chats(http, [url], words)
    used = f"; {_used(cpu_s(int(pid)) - used_s, words)}" if pid else ""
    print(f"{url}: {_added(first, direct)}{used}")


async def _gsim(
    http: aiohttp.ClientSession, urls: Sequence[str], policy: str, direct: Any, words: dict[str, str]
) -> None:
    router, _, rectifier = policy.partition("+")
    asked = [f"backends=[{','.join(urls)}]", "port=0", f"router={router}", f"rectifier={rectifier or 'none'}"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "gsim.serve", *asked, stdout=pipe)
    assert process.stdout is not None
    url = ""
    while not url:
        line = (await process.stdout.readline()).decode()
        if not line:
            raise SystemExit("the gateway did not start")
        url = line.split()[1] if line.startswith("ready") else ""
    await chats(http, [url], words)
    used_s = cpu_s(process.pid)
    first, _ = await chats(http, [url], words)
    used_s = cpu_s(process.pid) - used_s
    process.terminate()
    await process.wait()
    print(f"{policy}: {_added(first, direct)}; {_used(used_s, words)}")


def _used(seconds: float, words: dict[str, str]) -> str:
    request_us = 1e6 * seconds / number(words, "requests", 400)
    return f"CPU {request_us:.0f} us a request, {request_us / number(words, 'tokens', 300):.1f} an event"


def _added(first: Any, direct: Any) -> str:
    added = (1e3 * (np.quantile(first, share) - np.quantile(direct, share)) for share in (0.5, 0.99))
    return "TTFT {:+.2f} ms p50, {:+.2f} ms p99".format(*added)


if __name__ == "__main__":
    given = dict(word.split("=", 1) for word in sys.argv[2:])
    if sys.argv[1:2] == ["engine"]:
        engine(given)
    elif sys.argv[1:2] == ["gateway"]:
        asyncio.run(gateway(given))
    else:
        print(__doc__)
