"""The gateway in front of servers that answer otherwise than such a server does."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from gateway_cases import COMPLETE, policies
from live_cases import post

from gsim.core import ConfigError
from gsim.gateway.telemetry_config import TelemetryConfig
from gsim.serve.config import ServeConfig
from gsim.serve.leg import Leg
from gsim.serve.running import RunningGateway, start_gateway

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Test = Callable[[RunningGateway, aiohttp.ClientSession], Awaitable[None]]


def in_front_of(answer: Handler, test: Test, **options: Any) -> None:
    """Run a test with a gateway over one server that answers so."""

    async def models(_request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m", "max_model_len": 4096}]})

    async def main() -> None:
        app = web.Application()
        app.add_routes([web.get("/v1/models", models), web.post(COMPLETE, answer)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        config = ServeConfig(backends=[f"http://127.0.0.1:{runner.addresses[0][1]}"], port=0, **options)
        gateway = await start_gateway(config, policies, TelemetryConfig())
        try:
            async with aiohttp.ClientSession() as http:
                await test(gateway, http)
        finally:
            await gateway.close()
            await runner.cleanup()

    asyncio.run(asyncio.wait_for(main(), 10.0))


def choice(text: str, ids: list[int], reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "text": text, "token_ids": ids, "finish_reason": reason}


async def stream(request: web.Request, *events: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for event in events:
        await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    return response


@pytest.mark.parametrize("status", [202, 204, 302, 304])
def test_a_status_that_is_no_refusal_is_a_failure_of_the_server(status, tmp_path):
    asked = []

    async def answer(request):
        asked.append(await request.read())
        return web.Response(status=status)

    async def test(gateway, http):
        got, told = await post(http, gateway.url + COMPLETE, {"prompt": "a"})
        assert got == 502
        assert f"HTTP {status}" in told["error"]["message"]
        assert len(asked) == 2

    in_front_of(answer, test, retries=1, log=str(tmp_path))
    assert [json.loads(row)["tries"] for row in (tmp_path / "ended.jsonl").open()] == [2]


@pytest.mark.parametrize("said", [None, "many", -5, 2.5, [3]])
@pytest.mark.parametrize("body", [{"n": 2}, {"n": 2, "stream": True}, {"temperature": 0}])
def test_a_count_of_tokens_that_is_none_changes_nothing(body, said, tmp_path):
    asked = []

    async def answer(request):
        values = await request.json()
        asked.append(values)
        usage = {"prompt_tokens": said, "completion_tokens": said}
        if not values.get("stream"):
            return web.json_response({"choices": [choice("a", [1]), choice("b", [2])], "usage": usage})
        return await stream(
            request,
            {"choices": [choice("a", [1])], "usage": usage},
            {"choices": [choice("b", [2], "stop")], "usage": usage},
            {"choices": [], "usage": usage},
        )

    async def test(gateway, http):
        async with http.post(gateway.url + COMPLETE, json={"prompt": "a", **body}) as response:
            text = await response.text()
            assert response.status == 200, text
            assert '"error"' not in text
        assert len(asked) == 1

    in_front_of(answer, test, log=str(tmp_path))
    rows = [json.loads(row) for name in ("requests", "ended") for row in (tmp_path / f"{name}.jsonl").open()]
    assert len(rows) == 1
    assert type(rows[0]["output_length"]) is int
    assert rows[0]["output_length"] >= 0


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_request_that_is_over_is_kept_by_nobody(status):
    async def answer(request):
        await request.read()
        if status != 200:
            return web.json_response({"error": {}}, status=status)
        return await stream(request, {"choices": [choice("a", [1], "stop")]})

    async def test(gateway, http):
        # In 120 s, by default, somebody would look whether the server has become silent.
        for _ in range(5):
            await post(http, gateway.url + COMPLETE, {"prompt": "a", "temperature": 0})
        await asyncio.sleep(0.05)
        gc.collect()
        assert sum(type(each) is Leg for each in gc.get_objects()) == 0

    in_front_of(answer, test)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://me:secret@10.0.0.1:8000", "http://10.0.0.1:8000 is given with a user or password"),
        ("http://10.0.0.1:99999", "cannot be read"),
        ("http://10.0.0.1:x", "cannot be read"),
        ("http://[::1", "cannot be read"),
        ("http://", "http://HOST:PORT"),
        ("http://10.0.0.1:0", "http://HOST:PORT"),
        ("http://10.0.0.1:8000?key=1", "http://HOST:PORT"),
    ],
)
def test_an_address_that_is_more_or_less_than_one_is_refused(url, said):
    with pytest.raises(ConfigError) as error:
        ServeConfig(backends=[url]).validate()
    assert said in str(error.value)
    assert "secret" not in str(error.value)
