"""What one event costs the gateway and an emulated server: CPU, in one process, with nothing else at work.

    python -m benchmarks.relay [streams=40 events=250 servers=8]

A mute server writes the same events to all streams in one burst, a mute client counts them: once directly, once through
the gateway. The difference is the gateway's, receiving and sending included; on asyncio's loop, and on uvloop where it
is installed. Then emulated H800 stream twice as many answers to the mute client, which is counted with them.
Seconds, so that two versions can be compared on a machine that others use.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable

from gsim.cluster import InstanceSpec
from gsim.core import build
from gsim.emulate.config import EmulateConfig
from gsim.emulate.pool import start_pool
from gsim.engine import EngineConfig
from gsim.gateway.policies import Policies
from gsim.gateway.telemetry_config import TelemetryConfig
from gsim.latency import load_profile
from gsim.live.rounds import RoundLoop, run
from gsim.serve.config import ServeConfig
from gsim.serve.running import start_gateway

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
_SHARED = {"id": "chatcmpl-r1", "object": "chat.completion.chunk", "created": 1764450000, "model": "m"}


def chunk(token: int, reason: str | None = None) -> bytes:
    """An event of a chat as vLLM writes it, as one chunk of HTTP."""
    choice = {"index": 0, "delta": {"content": " abc"}, "logprobs": None, "finish_reason": reason, "stop_reason": None}
    told = json.dumps({**_SHARED, "choices": [{**choice, "token_ids": [token]}]}, separators=(",", ":"))
    return b"%x\r\ndata: %b\n\n\r\n" % (len(told) + 8, told.encode())


class MuteServer:
    """Answers what a gateway asks at its start; streams are written to by whoever measures."""

    def __init__(self) -> None:
        self.streams: list[asyncio.StreamWriter] = []

    async def start(self) -> str:
        """Its address."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                return
            sizes = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            if sizes:
                await reader.readexactly(int(sizes[0].partition(b":")[2]))
            if head.startswith(b"POST"):
                self.streams.append(writer)
                continue
            models = {"data": [{"id": "m", "max_model_len": 9999}]}
            body = json.dumps(models if b"/v1/models" in head else {}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


class Client(asyncio.Protocol):
    """Counts events until the last."""

    def __init__(self) -> None:
        self.events = 0
        self.done = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        self.events += data.count(b"data: ")
        if b"[DONE]" in data and not self.done.done():
            self.done.set_result(self.events)


async def drive(url: str, server: MuteServer, streams: int, events: int) -> float:
    """Microseconds of CPU of this process per event."""
    server.streams.clear()
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": events + 1, "stream": True}
    data = json.dumps({**body, "temperature": 0}).encode()
    post = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data)
    loop, clients = asyncio.get_running_loop(), []
    for _ in range(streams):
        transport, client = await loop.create_connection(Client, "127.0.0.1", int(url.rpartition(":")[2]))
        transport.write(post)
        clients.append(client)
    while len(server.streams) < streams:
        await asyncio.sleep(0.01)
    for stream in server.streams:
        stream.write(_HEAD + chunk(1))
    await asyncio.sleep(0.1)
    written = [chunk(1000 + i) for i in range(events)]
    began_s = time.process_time()
    for event in written:
        for stream in server.streams:
            stream.write(event)
        await asyncio.sleep(0.003)
    await asyncio.sleep(0.05)
    used_s = time.process_time() - began_s
    for stream in server.streams:
        stream.write(chunk(7, "length") + _END)
    for client in clients:
        assert await client.done >= 1, "a stream was not whole"
    return 1e6 * used_s / streams / events


async def measured(streams: int, events: int) -> str:
    """Both, in words."""
    server = MuteServer()
    url = await server.start()
    policies = Policies(build("router", "round_robin"), build("predictor", "history"), build("estimator", "ema"))
    gateway = await start_gateway(ServeConfig(backends=[url], port=0), lambda: policies, TelemetryConfig())
    direct = await drive(url, server, streams, events)
    through = await drive(gateway.url, server, streams, events)
    await gateway.close()
    return (
        f"directly {direct:.1f}, through the gateway {through:.1f}, its own {through - direct:.1f} us of CPU an event"
    )


async def emulated(streams: int, servers: int) -> str:
    """An emulated server's events, in words."""
    specs = [InstanceSpec(str(i), load_profile("h800-llama-3.1-8b"), EngineConfig()) for i in range(servers)]
    pool = await start_pool(specs, EmulateConfig(port=0))
    loop, clients = asyncio.get_running_loop(), []
    body = json.dumps({"prompt": list(range(300, 400)), "max_tokens": 400, "ignore_eos": True, "stream": True}).encode()
    for i in range(2 * streams):
        transport, client = await loop.create_connection(Client, "127.0.0.1", int(pool.urls[i % servers][17:]))
        transport.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        clients.append(client)
    await asyncio.sleep(0.5)
    before, began_s, used_s = sum(client.events for client in clients), time.monotonic(), time.process_time()
    await asyncio.sleep(1.0)
    used_s, span_s = time.process_time() - used_s, time.monotonic() - began_s
    events = sum(client.events for client in clients) - before
    await pool.close()
    return f"{1e6 * used_s / events:.1f} us of CPU an event, {events / span_s:.0f} events/s"


def main(words: dict[str, str]) -> None:
    """Measure on each kind of loop."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": RoundLoop}
    try:
        import uvloop

        loops["uvloop"] = uvloop.new_event_loop
    except ImportError:
        pass
    for name, factory in loops.items():
        with asyncio.Runner(loop_factory=factory) as runner:
            told = runner.run(measured(int(words.get("streams", 40)), int(words.get("events", 250))))
        print(f"{name}: {told}")
    told = run(emulated(int(words.get("streams", 40)), int(words.get("servers", 8))))
    print(f"emulated servers and their client: {told}")


if __name__ == "__main__":
    main(dict(word.split("=", 1) for word in sys.argv[1:]))
