"""A server with a known latency law: vLLM's API, metrics and scheduling in small, in virtual or real time.

In virtual time (``VirtualLoop`` and ``InProcess``) nothing waits for a clock and no socket is used: what the harness
measures is exactly what the law says, on however busy a machine.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from gsim.calibration.options import MeasureOptions
from gsim.core import Batch, Chunk

T = TypeVar("T")

#: The config.json of the model that the server pretends to serve.
CONFIG = {
    "model_type": "llama",
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 1536,
    "vocab_size": 4096,
    "max_position_embeddings": 4096,
}


def asked_of(out: Path, **fields: Any) -> MeasureOptions:
    """A campaign of the fake server into ``out``, which then has the model's configuration."""
    out.mkdir(parents=True, exist_ok=True)
    config = out / "config.json"
    config.write_text(json.dumps(CONFIG))
    usual = {
        "url": "http://fake:1",
        "gpu": "test",
        "max_num_batched_tokens": 512,
        "max_num_seqs": 32,
        "checks": 3,
        "min_repeats": 2,
    }
    return MeasureOptions(out=str(out), model_config=str(config), **{**usual, **fields})


def card_law(batch: Batch) -> float:
    """Seconds of an iteration on a small card: a memory floor that gives way to compute, attention, reading of KV."""
    dense_s = math.hypot(4e-3, 2e-5 * batch.tokens)
    square = sum(tokens * (tokens + 2 * context) for tokens, context in batch.chunks)
    return dense_s + 2e-9 * square + 1e-4 * batch.decodes + 2e-7 * batch.decode_context_tokens


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        wait = self._selector.select

        def select(timeout: float | None = None) -> list[Any]:
            ready = wait(0)
            if not ready:
                if timeout is None:
                    raise RuntimeError("everybody waits for ever")
                self._now_s += timeout
            return ready

        self._selector.select = select

    def time(self) -> float:
        return self._now_s


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


@dataclass
class Sequence:
    prompt: tuple[int, ...]
    max_tokens: int
    computed: int = 0
    generated: int = 0
    scheduled_s: float = -1.0
    prefill_s: float = 0.0
    arrived: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    gone: bool = False

    @property
    def known(self) -> int:
        return len(self.prompt) + self.generated


@dataclass
class FakeEngine:
    """Continuous batching with chunked prefill and a prefix cache; an iteration takes what ``law`` says."""

    law: Callable[[Batch], float] = card_law
    budget: int = 512
    max_model_len: int = 2048
    block_size: int = 16
    kv_blocks: int = 4096
    api_s: float = 0.002
    running: list[Sequence] = field(default_factory=list)
    counters: dict[str, float] = field(default_factory=dict)
    cached: set[tuple[int, ...]] = field(default_factory=set)
    most_running: int = 0

    def __post_init__(self) -> None:
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def submit(self, sequence: Sequence) -> None:
        if self.task is None:
            self.task = asyncio.create_task(self.run())
        blocks = (len(sequence.prompt) - 1) // self.block_size
        while sequence.computed < blocks * self.block_size:
            head = sequence.prompt[: sequence.computed + self.block_size]
            if head not in self.cached:
                break
            sequence.computed += self.block_size
        self.count("vllm:prefix_cache_hits_total", sequence.computed)
        self.running.append(sequence)
        self.most_running = max(self.most_running, len(self.running))
        self.wake.set()

    def count(self, name: str, by: float = 1.0) -> None:
        self.counters[name] = self.counters.get(name, 0.0) + by

    async def run(self) -> None:
        while True:
            self.running = [s for s in self.running if not s.gone]
            if not self.running:
                self.wake.clear()
                await self.wake.wait()
            plan = self.schedule()
            started_s = asyncio.get_running_loop().time()
            await asyncio.sleep(self.law(self.batch(plan)))
            self.finish(plan, started_s)

    def schedule(self) -> list[tuple[Sequence, int]]:
        budget, plan = self.budget, []
        for sequence in self.running:
            tokens = min(sequence.known - sequence.computed, budget)
            if tokens > 0:
                plan.append((sequence, tokens))
                budget -= tokens
        return plan

    def batch(self, plan: list[tuple[Sequence, int]]) -> Batch:
        chunks = tuple(Chunk(tokens, s.computed) for s, tokens in plan if tokens > 1)
        contexts = [s.computed for s, tokens in plan if tokens == 1]
        return Batch(chunks, len(contexts), sum(contexts), max(contexts, default=0))

    def finish(self, plan: list[tuple[Sequence, int]], started_s: float) -> None:
        now_s = asyncio.get_running_loop().time()
        for sequence, tokens in plan:
            if sequence.scheduled_s < 0.0:
                sequence.scheduled_s = started_s
            sequence.computed += tokens
            if sequence.computed < sequence.known:
                continue
            if sequence.generated == 0:
                sequence.prefill_s = now_s - sequence.scheduled_s
                for end in range(self.block_size, len(sequence.prompt) + 1, self.block_size):
                    self.cached.add(sequence.prompt[:end])
            sequence.generated += 1
            self.count("vllm:generation_tokens_total")
            sequence.arrived.put_nowait(sequence.generated)
            if sequence.generated == sequence.max_tokens:
                sequence.gone = True
                self.count("vllm:request_prefill_time_seconds_sum", sequence.prefill_s)
                self.count("vllm:request_prefill_time_seconds_count")
        self.running = [s for s in self.running if not s.gone]

    def metrics(self) -> str:
        lines = [f'{name}{{engine="0"}} {value!r}' for name, value in self.counters.items()]
        labels = f'block_size="{self.block_size}",enable_prefix_caching="True",num_gpu_blocks="{self.kv_blocks}"'
        return "\n".join(
            [
                "# HELP some text",
                *lines,
                f'vllm:num_requests_running{{engine="0"}} {len(self.running)}',
                'vllm:num_requests_waiting{engine="0"} 0',
                f"vllm:cache_config_info{{{labels}}} 1.0",
            ]
        )


@dataclass
class FakeServer:
    """The API in front of the engine, with faults to order.

    ``fault(n)`` names what goes wrong with the n-th completion: "" (nothing), "400", "503", "cut" or "silent".
    """

    engine: FakeEngine
    fault: Callable[[int], str] = lambda n: ""
    has_metrics: bool = True
    completions: int = 0

    async def answer(self, path: str, body: bytes) -> tuple[int, AsyncIterator[bytes]]:
        if path == "/v1/models":
            served = {"data": [{"id": "fake-model", "max_model_len": self.engine.max_model_len}]}
            return 200, _once(json.dumps(served))
        if path == "/version":
            return 200, _once('{"version": "0.0.fake"}')
        if path == "/metrics" and self.has_metrics:
            return 200, _once(self.engine.metrics())
        if path != "/v1/completions":
            return 404, _once('{"detail": "Not Found"}')
        self.completions += 1
        fault = self.fault(self.completions)
        await asyncio.sleep(self.engine.api_s)
        if fault.isdigit():
            return int(fault), _once(json.dumps({"error": {"message": f"ordered fault {fault}"}}))
        return 200, self.stream(json.loads(body), fault)

    async def stream(self, body: dict[str, Any], fault: str) -> AsyncIterator[bytes]:
        merged: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        sequences = [Sequence(tuple(prompt), body["max_tokens"]) for prompt in body["prompt"]]

        async def forward(index: int, sequence: Sequence) -> None:
            while True:
                merged.put_nowait((index, await sequence.arrived.get()))

        pumps = [asyncio.create_task(forward(i, s)) for i, s in enumerate(sequences)]
        for sequence in sequences:
            self.engine.submit(sequence)
        try:
            for _ in range(len(sequences) * body["max_tokens"]):
                index, tokens = await merged.get()
                usage = {"completion_tokens": tokens}
                chunk = {"choices": [{"index": index, "text": ""}], "usage": usage}
                yield f"data: {json.dumps(chunk)}\n\n".encode()
                if fault == "cut":
                    return
                if fault == "silent":
                    await asyncio.sleep(3600)
            yield b"data: [DONE]\n\n"
        finally:
            for sequence in sequences:
                sequence.gone = True
            for pump in pumps:
                pump.cancel()


async def _once(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


class _Body(httpx.AsyncByteStream):
    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        self.parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self.parts:
            yield part

    async def aclose(self) -> None:
        await self.parts.aclose()  # type: ignore[attr-defined]


class InProcess(httpx.AsyncBaseTransport):
    """Carries httpx requests to a fake server in the same event loop."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        status, parts = await self.server.answer(request.url.path, await request.aread())
        return httpx.Response(status, stream=_Body(parts))
