"""The gateway over a real vLLM: greedy answers that are moved in mid-stream are what they are without a move.

    python tests/vllm/gateway.py url=http://127.0.0.1:8021 [requests=24] [tokens=120]

Three answers to the same requests, in ids and in text: vLLM's own; the gateway's over two entries of this one server,
every request moved from one to the other; the gateway's over this server and an emulated one, moved there and back. The
first two must be equal. In the third the emulated server goes on in its own way: its ids before the first move are
vLLM's, and there are as many as were asked for. Exit status 1 where one of these does not hold.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import aiohttp

from gsim.cluster import InstanceSpec
from gsim.core import ActiveRequests, ClusterView, Migration, build
from gsim.emulate.config import EmulateConfig
from gsim.emulate.process import pool_process
from gsim.engine import EngineConfig
from gsim.gateway.policies import Policies
from gsim.gateway.telemetry_config import TelemetryConfig
from gsim.latency import load_profile
from gsim.live.sse import DONE, Events
from gsim.serve.config import ServeConfig
from gsim.serve.running import start_gateway

MODEL = "tiny-llama"
Answer = tuple[list[int], str]


@dataclass
class MoveAll:
    """Moves every request that has some tokens on, so many times."""

    moves: int
    interval_s: float = 0.5
    needs: ClassVar[frozenset[str]] = frozenset()

    def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
        fresh = (active.moves < self.moves) & (active.generated_tokens > 5) & ~active.moving
        pairs = zip(active.request_id[fresh].tolist(), active.instance[fresh].tolist(), strict=True)
        return [Migration(request, (instance + 1) % len(view)) for request, instance in pairs]


async def answer(http: aiohttp.ClientSession, url: str, prompt: list[int], tokens: int) -> Answer:
    body = {"model": MODEL, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    body |= {"stream": True, "return_token_ids": True}
    ids, text, events = [], "", Events()
    async with http.post(f"{url}/v1/completions", json=body) as response:
        assert response.status == 200, await response.text()
        async for data in response.content.iter_any():
            for event in events.feed(data):
                for choice in json.loads(event)["choices"] if event != DONE else ():
                    ids += choice.get("token_ids") or []
                    text += choice["text"]
    return ids, text


async def through(urls: list[str], moves: int, prompts: list[list[int]], tokens: int) -> tuple[list[Answer], int, int]:
    """Answers by way of a gateway over ``urls``, and how many moves it has made and given up."""

    def policies() -> Policies:
        made: dict[str, Any] = {"rectifier": MoveAll(moves), "mechanism": build("mechanism", "token_ids")}
        return Policies(
            build("router", "round_robin"), build("predictor", "history"), build("estimator", "ema"), **made
        )

    gateway = await start_gateway(ServeConfig(backends=urls, port=0), policies, TelemetryConfig())
    async with aiohttp.ClientSession() as http:
        answers = await asyncio.gather(*(answer(http, gateway.url, prompt, tokens) for prompt in prompts))
    counters = gateway.service.gateway.counters
    await gateway.close()
    return list(answers), counters["migrations"], counters["retries"]


async def main(words: dict[str, str]) -> int:
    url, tokens = words["url"], int(words.get("tokens", 120))
    prompts = [[3 + (7 * i + 11 * k) % 4000 for k in range(20 + i)] for i in range(int(words.get("requests", 24)))]
    async with aiohttp.ClientSession() as http:
        still = await asyncio.gather(*(answer(http, url, prompt, tokens) for prompt in prompts))
    again, moved, retries = await through([url, url.replace("127.0.0.1", "localhost")], 1, prompts, tokens)
    ids = sum(a[0] == b[0] for a, b in zip(still, again, strict=True))
    texts = sum(a[1] == b[1] for a, b in zip(still, again, strict=True))
    print(
        f"vLLM to vLLM: {moved} moves, {retries} retries; of {len(still)} answers {ids} have the same ids, "
        f"{texts} the same text"
    )
    spec = InstanceSpec("emulated", load_profile("v100-llama-3.1-8b"), EngineConfig(), 0.0)
    with pool_process([spec], EmulateConfig(port=0, served_model=MODEL, vocabulary=4096)) as others:
        mixed, moves, tries = await through([url, *others], 2, prompts, tokens)
    whole = sum(len(each[0]) == tokens for each in mixed)
    # Round robin: every other request begins at vLLM.
    begun = sum(a[0][:5] == b[0][:5] for a, b in list(zip(still, mixed, strict=True))[::2])
    print(
        f"vLLM to emulated and back: {moves} moves, {tries} retries; {whole} of {len(mixed)} are whole, "
        f"{begun} of {len(mixed[::2])} that began at vLLM begin as its own"
    )
    good = ids == texts == len(still) and whole == len(mixed) and begun == len(mixed[::2]) and moved >= len(still)
    return 0 if good and moves >= len(mixed) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(dict(word.split("=", 1) for word in sys.argv[1:]))))
