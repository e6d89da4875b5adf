"""The gateway in front of servers that answer otherwise than such a server does."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import aiohttp
import pytest
from aiohttp import web
from gateway_cases import COMPLETE, MoveAll, policies
from live_cases import post

from gsim.core import ConfigError
from gsim.gateway.telemetry_config import TelemetryConfig
from gsim.serve.config import ServeConfig
from gsim.serve.leg import Leg
from gsim.serve.running import RunningGateway, start_gateway

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Test = Callable[[RunningGateway, aiohttp.ClientSession], Awaitable[None]]


async def started(answer: Handler) -> web.AppRunner:
    """A server that answers so, on a free port."""

    async def models(_request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m", "max_model_len": 4096}]})

    app = web.Application()
    app.add_routes([web.get("/v1/models", models), web.post(COMPLETE, answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


def in_front_of(answer: Handler, test: Test, **options: Any) -> None:
    """Run a test with a gateway over one server that answers so."""

    async def main() -> None:
        runner = await started(answer)
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


def test_a_client_is_told_when_to_come_again_to_servers_that_take_no_more():
    asked = []

    async def answer(request):
        asked.append(request.headers.get("Accept-Encoding"))
        await request.read()
        return web.json_response({"error": {"message": "full"}}, status=429, headers={"Retry-After": "3"})

    async def test(gateway, http):
        async with http.post(gateway.url + COMPLETE, json={"prompt": "a", "stream": True}) as response:
            assert response.status == 429
            assert response.headers["Retry-After"] == "1"
            assert (await response.json())["error"]["type"] == "RateLimitError"
        # What is read is not unpacked, so nothing packed is asked for.
        assert asked == ["identity", "identity"]

    in_front_of(answer, test, retries=1)


def test_an_answer_that_the_server_gives_up_is_begun_again():
    asked = []

    async def answer(request):
        asked.append(await request.json())
        if len(asked) == 1:
            return await stream(request, {"choices": [choice("a", [1])]}, {"choices": [choice("", [], "abort")]})
        return await stream(request, {"choices": [choice("b", [2], "stop")]})

    async def test(gateway, http):
        body = {"prompt": [7, 8], "temperature": 0, "max_tokens": 5}
        _, told = await post(http, gateway.url + COMPLETE, body)
        assert (told["choices"][0]["text"], told["choices"][0]["finish_reason"]) == ("ab", "stop")
        assert (asked[1]["prompt"], asked[1]["max_tokens"]) == ([7, 8, 1], 4)

    in_front_of(answer, test)


@pytest.mark.parametrize("streamed", [True, False])
def test_a_sampled_answer_that_is_given_up_is_begun_anew(streamed):
    asked = []

    async def answer(request):
        asked.append(await request.json())
        reason = "abort" if len(asked) == 1 else "stop"
        if not asked[0].get("stream"):
            return web.json_response({"choices": [choice("b", [2], reason)]})
        return await stream(request, {"choices": [choice("b", [2], reason)]})

    async def test(gateway, http):
        async with http.post(gateway.url + COMPLETE, json={"prompt": "a", "seed": 3, "stream": streamed}) as response:
            told = await response.text()
            assert response.status == 200, told
        assert told.count('"finish_reason"') == told.count('"stop"') == 1
        assert len(asked) == 2

    in_front_of(answer, test)


def test_what_is_taken_back_before_it_was_told_was_not_told():
    """An event and an error in one packet: the client has got nothing, so all retries are its."""
    asked = []

    async def answer(request):
        asked.append(await request.read())
        if len(asked) == 1:
            response = web.StreamResponse()
            await response.prepare(request)
            both = {"choices": [choice("a", [1])]}, {"error": {"message": "x", "code": 500}}
            await response.write(b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in both))
            return response
        if len(asked) < 4:
            await asyncio.sleep(0.05)
            return web.json_response({}, status=429)
        return await stream(request, {"choices": [choice("b", [2], "stop")]})

    async def test(gateway, http):
        async with http.post(gateway.url + COMPLETE, json={"prompt": "a", "stream": True, "seed": 3}) as response:
            told = await response.text()
            assert response.status == 200, told
        assert '"error"' not in told
        assert '"text": "a"' not in told
        assert len(asked) == 4

    in_front_of(answer, test, retries=5)


def test_an_answer_that_comes_whole_teaches_no_speed(tmp_path):
    async def answer(request):
        await request.read()
        await asyncio.sleep(0.1)
        return web.json_response({"choices": [choice("a b", [1, 2], "stop")], "usage": {"completion_tokens": 2}})

    async def test(gateway, http):
        view = gateway.service.gateway.view
        before = view.tpot_s.tolist(), view.prefill_s_per_token.tolist()
        for _ in range(3):
            assert (await post(http, gateway.url + COMPLETE, {"prompt": "a"}))[0] == 200
        assert (view.tpot_s.tolist(), view.prefill_s_per_token.tolist()) == before
        assert not view.in_flight.any()

    in_front_of(answer, test, log=str(tmp_path))
    rows = [json.loads(row) for row in (tmp_path / "requests.jsonl").open()]
    assert len(rows) == 3
    assert not any("ttft_ms" in row for row in rows)


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


@dataclass
class MovesAtTheEnd(MoveAll):
    """Moves every request once, from when its server has written its last token."""

    interval_s: float = 0.005
    moves: int = 1
    begun: ClassVar[bool] = False

    def review(self, active, view):
        return super().review(active, view) if MovesAtTheEnd.begun else []


def test_a_review_that_is_due_at_the_last_token_leaves_no_request_behind():
    MovesAtTheEnd.begun = False
    urls, asked = [], []

    async def answer(request):
        values = await request.json()
        asked.append(values["max_tokens"])
        response = web.StreamResponse()
        await response.prepare(request)
        for left in range(values["max_tokens"], 0, -1):
            event = {"choices": [choice("x ", [9], None if left > 1 else "length")]}
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            if left > 1:
                await asyncio.sleep(0.03)
            else:
                # The whole event loop stands still here: when it goes on, a review is due, and the last token is there.
                MovesAtTheEnd.begun = True
                time.sleep(0.02)
        await response.write(b"data: [DONE]\n\n")
        return response

    async def main():
        runners = [await started(answer) for _ in range(2)]
        urls.extend(f"http://127.0.0.1:{runner.addresses[0][1]}" for runner in runners)
        by = partial(policies, rectifier=MovesAtTheEnd())
        gateway = await start_gateway(ServeConfig(backends=urls, port=0), by, TelemetryConfig())
        try:
            async with aiohttp.ClientSession() as http:
                body = {"prompt": [7], "max_tokens": 3, "temperature": 0}
                _, told = await post(http, gateway.url + COMPLETE, body)
                assert told["choices"][0]["text"] == "x x x "
                assert told["usage"]["completion_tokens"] == 3
        finally:
            await gateway.close()
            for runner in runners:
                await runner.cleanup()

    asyncio.run(asyncio.wait_for(main(), 10.0))
    assert asked in ([3], [3, 1])
