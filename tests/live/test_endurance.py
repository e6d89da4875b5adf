"""Two thousand streams at once, and a gateway that is started anew: every request ends once."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from aiohttp import web
from gateway_cases import COMPLETE, GREEDY, TWO, policies, served
from live_cases import all_chunks, emulated, post, until

from gsim.gateway.telemetry_config import TelemetryConfig
from gsim.serve.config import ServeConfig
from gsim.serve.running import start_gateway

STREAMS = 2000


def test_two_thousand_streams_at_once():
    async def one(http, url, i):
        body = {"prompt": [300 + i, 7], "max_tokens": 20, "stream": True, **GREEDY, "stream_interval": 5}
        async with http.post(url, json=body) as response:
            assert response.status == 200
            if i % 20 == 0:
                await asyncio.sleep(1.0)  # a slow reader
            events = (await response.text()).split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""]
        return [json.loads(event[6:]) for event in events[:-2]]

    async def test(gateway, pool, http):
        # Nothing is answered until all of them are there.
        for server in pool.servers:
            server.faults.begin({"kind": "hang"})
        tasks = [asyncio.create_task(one(http, gateway.url + COMPLETE, i)) for i in range(STREAMS)]
        await until(lambda: len(gateway.service.exchanges) == STREAMS, "all were there", 30.0)
        for server in pool.servers:
            server.faults.end()
        answers = await asyncio.gather(*tasks)
        for i, parts in enumerate(answers):
            choices = [choice for part in parts for choice in part["choices"]]
            ids = [token for choice in choices for token in choice["token_ids"]]
            assert choices[0]["prompt_token_ids"] == [300 + i, 7]
            assert len(ids) == len(set(ids)) == parts[-1]["usage"]["completion_tokens"] == 20
            assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["length"]
        rows = gateway.service.gateway.log.table.columns("request_id")["request_id"].tolist()
        assert len(rows) == len(set(rows)) == STREAMS
        assert gateway.service.gateway.counters["retries"] == 0
        assert not gateway.service.exchanges
        assert not gateway.service.gateway.view.in_flight.any()

    served(test, *TWO * 2, health_interval_s=60.0, within_s=60.0)


def test_a_gateway_that_is_started_anew_goes_on_where_it_was(tmp_path):
    body = {"prompt": [5, 6, 7], "max_tokens": 100_000, **GREEDY}

    async def main():
        async with emulated("h800-llama-3.1-8b", speed=5.0) as (pool, http):
            config = ServeConfig(backends=list(pool.urls), port=0, speed=5.0, log=str(tmp_path))
            gateway = await start_gateway(config, policies, TelemetryConfig())
            config.port = int(gateway.url.rpartition(":")[2])
            for tokens in (20, 30):
                assert (await post(http, gateway.url + COMPLETE, {"prompt": [5, 6], "max_tokens": tokens}))[0] == 200
            streams = [asyncio.create_task(all_chunks(http, gateway.url + COMPLETE, body)) for _ in range(20)]
            whole = asyncio.create_task(post(http, gateway.url + COMPLETE, {"prompt": [1], "max_tokens": 9000}))
            await until(lambda: len(gateway.service.exchanges) == 21, "all were under way")
            await asyncio.sleep(0.2)
            await gateway.close()
            # Whoever has got some of his answer is told that no more comes; who has got nothing gets an error.
            for stream in streams:
                parts = await stream
                assert parts[0]["choices"]
                assert [part["error"]["code"] for part in parts[:-1] if "error" in part] == [503]
                assert parts[-1] == "[DONE]"
            status, answer = await whole
            assert (status, answer["error"]["code"]) == (503, 503)
            await until(lambda: len(pool.servers[0].served) == 0, "the server dropped them")

            again = await start_gateway(config, policies, TelemetryConfig())
            assert again.url == gateway.url
            assert again.service.learned == 2
            async with aiohttp.ClientSession() as fresh:
                assert (await post(fresh, again.url + COMPLETE, {"prompt": [5, 6], "max_tokens": 5}))[0] == 200
            await again.close()

    asyncio.run(asyncio.wait_for(main(), 20.0))
    rows, ended = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("requests", "ended")
    )
    assert [row["output_length"] for row in rows] == [20, 30, 5]
    names = [row["request"] for row in rows + ended]
    assert len(names) == len(set(names)) == 24


@pytest.mark.parametrize("streamed", [True, False])
def test_a_server_that_answers_500_is_made_up_for(streamed):
    async def test(gateway, pool, http):
        asked = []

        async def meet(request):
            asked.append(request.path)
            return web.json_response({"error": {"message": "no", "code": 500}}, status=500)

        pool.servers[0].faults.meet = meet
        body = {"prompt": [1, 2], "max_tokens": 5, **GREEDY}
        for _ in range(2):
            if streamed:
                parts = await all_chunks(http, gateway.url + COMPLETE, body)
                assert parts[-2]["usage"]["completion_tokens"] == 5
            else:
                status, answer = await post(http, gateway.url + COMPLETE, {"prompt": [1, 2], "max_tokens": 5})
                assert (status, answer["usage"]["completion_tokens"]) == (200, 5)
        assert asked.count(COMPLETE) >= 1
        assert not gateway.service.exchanges

    served(test, health_interval_s=60.0)


def test_requests_and_headers_have_limits():
    async def test(gateway, pool, http):
        status, answer = await post(http, gateway.url + COMPLETE, {"prompt": "word " * 1000})
        assert (status, answer["error"]["code"]) == (413, 413)
        async with http.post(gateway.url + COMPLETE, json={"prompt": [1]}, headers={"x-task": "x" * 9000}) as response:
            assert response.status == 400
        async with http.post(gateway.url + COMPLETE, json={"prompt": [1]}, headers={"x-task": "x" * 201}) as response:
            assert response.status == 400
        assert not gateway.service.exchanges
        assert gateway.url.startswith("http://127.0.0.1:")

    served(test, max_body_bytes=4000)
