"""The gateway over emulated servers: the same policies, moves that clients do not see, faults, security."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from dataclasses import replace
from typing import ClassVar

import pytest
from gateway_cases import CHAT, COMPLETE, GREEDY, TWO, MoveAll, moving, policies, served, told
from live_cases import all_chunks, chunks, emulated, post, until

from gsim.core import ConfigError, Request, SimulationError, Streams, build
from gsim.gateway.policies import Policies
from gsim.gateway.telemetry_config import TelemetryConfig
from gsim.serve.__main__ import main
from gsim.serve.config import ServeConfig
from gsim.serve.running import start_gateway
from gsim.workload.formats.mooncake import Mooncake
from gsim.workload.slo import Fixed


def test_an_answer_is_that_of_the_server():
    async def test(gateway, pool, http):
        body = {"prompt": [5, 6, 7], "max_tokens": 20, "temperature": 0, "return_token_ids": True}
        _, direct = await post(http, pool.urls[0] + COMPLETE, body)
        status, through = await post(http, gateway.url + COMPLETE, body)
        assert status == 200
        assert through["usage"] == direct["usage"]
        keys = ("text", "token_ids", "prompt_token_ids", "finish_reason", "index")
        assert [through["choices"][0][k] for k in keys] == [direct["choices"][0][k] for k in keys]
        parts = await all_chunks(http, gateway.url + COMPLETE, {**body, "stream_options": {"include_usage": True}})
        ids, text, ends = told(parts)
        assert (ids, text) == (direct["choices"][0]["token_ids"], direct["choices"][0]["text"])
        assert [end for end in ends if end] == ["length"]
        assert parts[-2]["usage"] == direct["usage"]
        assert parts[-1] == "[DONE]"
        assert len({part["id"] for part in parts[:-1]}) == 1

    served(test)


@pytest.mark.parametrize("chat", [False, True])
def test_a_move_is_not_seen(chat):
    path = CHAT if chat else COMPLETE
    prompt = {"messages": [{"role": "user", "content": "tell me"}]} if chat else {"prompt": "some words of a prompt"}

    async def test(gateway, pool, http):
        body = {**prompt, "max_tokens": 400, **GREEDY}
        still = told(await all_chunks(http, pool.urls[0] + path, body))
        parts = await asyncio.gather(*(all_chunks(http, gateway.url + path, body) for _ in range(5)))
        for each in parts:
            assert told(each)[:2] == still[:2]
            assert [end for end in told(each)[2] if end] == ["length"]
            assert len({part["id"] for part in each[:-1]}) == 1
            assert each[-2]["usage"]["completion_tokens"] == 400
            if chat:
                assert [c["delta"].get("role") for p in each[:-1] for c in p["choices"]].count("assistant") == 1
        assert gateway.service.gateway.counters["migrations"] == 10
        _, whole = await post(http, gateway.url + path, {k: v for k, v in body.items() if k != "stream_options"})
        assert whole["choices"][0]["token_ids"] == still[0]

    served(test, by=moving)


def test_none_of_a_hundred_moved_streams_is_broken():
    async def test(gateway, pool, http):
        body = {"max_tokens": 150, **GREEDY, "stream_interval": 10}
        prompts = [[300 + i, 7, 9] for i in range(100)]
        still = [
            await post(http, pool.urls[0] + COMPLETE, {"prompt": p, "max_tokens": 150, "return_token_ids": True})
            for p in prompts[:3]
        ]
        parts = await asyncio.gather(
            *(all_chunks(http, gateway.url + COMPLETE, {"prompt": p, **body}) for p in prompts)
        )
        for each in parts:
            assert len(told(each)[0]) == each[-2]["usage"]["completion_tokens"] == 150
            assert [end for end in told(each)[2] if end] == ["length"]
        for (_, whole), each in zip(still, parts):
            assert told(each)[0] == whole["choices"][0]["token_ids"]
        counters = gateway.service.gateway.counters
        assert counters["migrations"] >= 100
        assert counters["moves_fell_back"] == counters["retries"] == 0

    served(test, by=moving, speed=5.0)


@pytest.mark.parametrize(
    "field",
    [
        {"temperature": 0.7},
        {"seed": 3},
        {"stop": ["x"]},
        {"presence_penalty": 0.5},
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "function"}]},
        {"prompt": ["several", "prompts"]},
    ],
)
def test_what_is_more_than_its_tokens_stays(field):
    async def test(gateway, pool, http):
        body = {"prompt": "a b c", "max_tokens": 200, **GREEDY, **field}
        parts = await all_chunks(http, gateway.url + COMPLETE, body)
        assert len(told(parts)[0]) == 200 * (2 if "prompt" in field else 1)
        counters = gateway.service.gateway.counters
        assert counters["migrations"] == 0
        assert counters["moves_refused"] > 0
        async with http.post(gateway.url + COMPLETE, json={"stream": True, **body}) as response:
            assert (
                response.headers["x-gsim-movable"]
                == f"no: {'several prompts' if 'prompt' in field else next(iter(field))}"
            )
        _, whole = await post(http, gateway.url + COMPLETE, {k: v for k, v in body.items() if k != "stream_options"})
        assert whole["usage"]["completion_tokens"] == len(told(parts)[0])

    served(test, by=moving)


def test_a_server_that_dies_in_mid_stream_is_made_up_for():
    async def test(gateway, pool, http):
        body = {"prompt": [5, 6, 7], "max_tokens": 400, **GREEDY}
        still = told(await all_chunks(http, pool.urls[0] + COMPLETE, body))
        task = asyncio.create_task(all_chunks(http, gateway.url + COMPLETE, body))
        await until(lambda: len(pool.servers[0].served) == 1, "the request was there")
        await asyncio.sleep(0.05)
        pool.servers[0].faults.begin({"kind": "crash"})
        assert told(await task)[:2] == still[:2]
        # What cannot be continued, and of which the client has something, ends clearly.
        await until(lambda: not gateway.service.gateway.view.available[0], "the dead server was noticed")
        pool.servers[0].faults.end()
        await until(lambda: bool(gateway.service.gateway.view.available[0]), "the server was taken in again")

    served(test, health_interval_s=0.05)


def test_what_cannot_be_continued_ends_clearly():
    async def test(gateway, pool, http):
        body = {"prompt": [5, 6, 7], "max_tokens": 100_000, "temperature": 0.8}
        stream = chunks(http, gateway.url + COMPLETE, body)
        await anext(stream)
        pool.servers[0].faults.begin({"kind": "crash"})
        rest = [part async for part in stream]
        assert rest[-2]["error"]["code"] == 502
        assert rest[-1] == "[DONE]"
        assert not gateway.service.exchanges
        assert not gateway.service.gateway.active

    served(test, "h800-llama-3.1-8b")


@pytest.mark.parametrize("kind", ["unavailable", "error_event"])
def test_what_has_not_streamed_is_tried_elsewhere(kind):
    async def test(gateway, pool, http):
        pool.servers[0].faults.begin({"kind": kind})
        for temperature in (0, 0.9):
            body = {"prompt": [1, 2], "max_tokens": 5, "temperature": temperature}
            for _ in range(2):
                status, _ = await post(http, gateway.url + COMPLETE, body)
                assert status == 200
        assert gateway.service.gateway.counters["retries"] > 0

    served(test, health_interval_s=60.0)


def test_a_server_that_hangs_is_given_up():
    async def test(gateway, pool, http):
        pool.servers[0].faults.begin({"kind": "hang"})
        status, answer = await post(http, gateway.url + COMPLETE, {"prompt": [1, 2], "max_tokens": 5, "temperature": 0})
        assert (status, answer["usage"]["completion_tokens"]) == (200, 5)

    served(test, silence_s=0.2, health_interval_s=60.0)


def test_without_a_server_there_is_an_end_too():
    async def test(gateway, pool, http):
        for server in pool.servers:
            server.faults.begin({"kind": "unavailable"})
        body = {"prompt": [1, 2], "max_tokens": 5, "temperature": 0}
        status, answer = await post(http, gateway.url + COMPLETE, body)
        assert status in (502, 503)
        assert "error" in answer
        for index in range(len(pool.servers)):
            gateway.service._down(index)
        status, answer = await post(http, gateway.url + COMPLETE, body)
        assert (status, answer["error"]["message"]) == (503, "no server is up")
        assert not gateway.service.exchanges

    served(test, health_interval_s=60.0, max_hold_s=1.0)


def test_metrics_that_lie_are_not_believed():
    async def test(gateway, pool, http):
        view = gateway.service.gateway.view
        # Nobody looks at servers while nothing is under way.
        stream = chunks(http, gateway.url + COMPLETE, {"prompt": [1], "max_tokens": 100_000, "temperature": 0})
        await anext(stream)
        await until(lambda: bool((view.scraped_s > 0).all()), "both servers were scraped")
        pool.servers[0].faults.begin({"kind": "lying"})
        await asyncio.sleep(0.1)
        assert view.waiting.min() >= 0
        assert 0 <= view.kv_usage.min() <= view.kv_usage.max() <= 1
        text = await (await http.get(gateway.url + "/metrics")).text()
        assert 'gsim:unreadable_metrics_total{server="h800-llama-3.1-8b-0"}' in text
        assert "# TYPE gsim:decisions_total counter\ngsim:decisions_total 1.0\n" in text
        await stream.aclose()

    served(test, by=lambda: policies("least_load"))


def test_a_client_that_goes_away_ends_its_request_everywhere():
    async def test(gateway, pool, http):
        body = {"prompt": [1], "max_tokens": 100_000, "temperature": 0}
        streams = [chunks(http, gateway.url + COMPLETE, body) for _ in range(4)]
        for stream in streams:
            await anext(stream)
        for stream in streams:
            await stream.aclose()
        await until(lambda: not gateway.service.exchanges, "the gateway forgot the requests")
        await until(lambda: sum(len(server.served) for server in pool.servers) == 0, "the servers dropped them")
        assert not gateway.service.gateway.active
        assert not gateway.service.gateway.view.in_flight.any()

    served(test, by=moving)


def test_many_streams_at_once_and_slow_readers():
    async def one(http, url, slow):
        body = {"prompt": [1, 2, 3], "max_tokens": 30, **GREEDY}
        async with http.post(url, json={"stream": True, **body}) as response:
            if slow:
                await asyncio.sleep(0.3)
            return (await response.text()).count('finish_reason":"length"')

    async def test(gateway, pool, http):
        url = gateway.url + COMPLETE
        ends = await asyncio.gather(*(one(http, url, slow=i % 10 == 0) for i in range(200)))
        assert ends == [1] * 200
        rows = gateway.service.gateway.log.table.columns("request_id")
        assert len(rows["request_id"]) == len(set(rows["request_id"].tolist())) == 200

    served(test, speed=5.0)


def test_too_many_requests_are_turned_away():
    async def test(gateway, pool, http):
        stream = chunks(http, gateway.url + COMPLETE, {"prompt": [1], "max_tokens": 100_000, "temperature": 0})
        await anext(stream)
        status, answer = await post(http, gateway.url + COMPLETE, {"prompt": [1]})
        assert (status, answer["error"]["type"]) == (429, "RateLimitError")
        await stream.aclose()

    served(test, max_requests=1)


@pytest.mark.parametrize(
    ("body", "headers", "param"),
    [
        (b"[1]", {}, None),
        (b'{"prompt": []}', {}, "prompt"),
        (b'{"prompt": [1], "slo_ms": "soon"}', {}, "slo_ms"),
        (b'{"prompt": [1]}', {"x-slo-ms": "-3"}, "slo_ms"),
        (b'{"prompt": [1], "task": ["x"]}', {}, "task"),
    ],
)
def test_bad_input_is_a_400(body, headers, param):
    async def test(gateway, pool, http):
        async with http.post(gateway.url + COMPLETE, data=body, headers=headers) as response:
            assert response.status == 400
            assert (await response.json())["error"]["param"] == param

    served(test)


def test_a_refusal_of_the_server_is_passed_on_as_it_is():
    async def test(gateway, pool, http):
        body = {"prompt": [1], "max_tokens": 1 << 24, "temperature": 0}
        direct = await post(http, pool.urls[0] + COMPLETE, body)
        assert await post(http, gateway.url + COMPLETE, body) == direct
        assert direct[0] == 400
        assert not gateway.service.exchanges

    served(test)


def test_keys_are_passed_on_and_written_nowhere(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    key = "Bearer sk-very-secret"

    async def test(gateway, pool, http):
        seen = []
        completions = pool.servers[0].faults.meet

        async def meet(request):
            seen.append(request.headers.get("authorization"))
            return await completions(request)

        pool.servers[0].faults.meet = meet
        headers = {"authorization": key}
        body = {"prompt": [1], "max_tokens": 5, "temperature": 0}
        assert (await post(http, gateway.url + COMPLETE, body, headers=headers))[0] == 200
        assert key in seen
        pool.servers[0].faults.begin({"kind": "crash"})
        await post(http, gateway.url + COMPLETE, body, headers=headers)
        assert "sk-very-secret" not in await (await http.get(gateway.url + "/metrics")).text()

    served(test, "h800-llama-3.1-8b", log=str(tmp_path), retries=0)
    assert "sk-very-secret" not in caplog.text
    assert all("sk-very-secret" not in path.read_text() for path in tmp_path.iterdir())


def test_what_was_served_is_a_trace_and_is_learned_again(tmp_path):
    async def test(gateway, pool, http):
        prompt = list(range(600))
        for tokens, extra in ((40, []), (20, [7] * 10), (30, [8] * 900)):
            body = {"prompt": prompt + extra, "max_tokens": tokens, "temperature": 0}
            headers = {"x-slo-ms": "6000", "x-task": "chat"}
            await post(http, gateway.url + COMPLETE, body, headers=headers)
        await post(http, gateway.url + COMPLETE, {"prompt": [1], "max_tokens": 1 << 24, "temperature": 0})

    served(test, log=str(tmp_path))
    sessions = list(Mooncake(path=str(tmp_path / "requests.jsonl")).sessions(Streams(0), Fixed(9.0)))
    jobs = [session.jobs[0] for session in sessions]
    assert [job.output_tokens for job in jobs] == [40, 20, 30]
    assert [job.request.prompt_tokens for job in jobs] == [600, 610, 1500]
    assert jobs[0].request.content[0] == jobs[2].request.content[0]  # the shared block of 512 tokens
    ended = [json.loads(line) for line in (tmp_path / "ended.jsonl").read_text().splitlines()]
    assert [row["status"] for row in ended] == ["rejected"]
    assert not ended[0]["why"].startswith("{")

    async def again(gateway, pool, http):
        assert gateway.service.learned == 3
        predictor = gateway.service.policies.predictor
        assert predictor.predict(Request(99, 0.0, 600, 512, 6.0, "chat")) != predictor.prior_tokens

    served(
        again,
        log=str(tmp_path),
        by=lambda: Policies(
            build("router", "round_robin"), build("predictor", "history", min_samples=1), build("estimator", "ema")
        ),
    )


def test_a_policy_that_fails_is_an_answer_and_not_the_end():
    class Broken:
        needs: ClassVar[frozenset[str]] = frozenset()

        def __init__(self):
            self.asked = 0

        def route(self, request, view):
            self.asked += 1
            if self.asked % 2:
                raise ZeroDivisionError("no idea")
            return 0

    async def test(gateway, pool, http):
        body = {"prompt": [1], "max_tokens": 5, "temperature": 0}
        statuses = [(await post(http, gateway.url + COMPLETE, body)) for _ in range(4)]
        assert [status for status, _ in statuses] == [500, 200, 500, 200]
        assert "no idea" in statuses[0][1]["error"]["message"]
        assert not gateway.service.gateway.active

    served(test, by=lambda: Policies(Broken(), build("predictor", "history"), build("estimator", "ema")))


def test_an_estimator_that_fails_is_refreshed_an_interval_later():
    estimator, seen = build("estimator", "ema"), []
    refresh = estimator.refresh

    async def test(gateway, pool, http):
        def failing(now_s):
            if gateway.service.gateway.active:
                seen.append(now_s)
                if len(seen) == 1:
                    raise ZeroDivisionError("lost count")
            refresh(now_s)

        estimator.refresh = failing
        body = {"prompt": [1], "max_tokens": 400, "ignore_eos": True, "temperature": 0}
        status, _ = await post(http, gateway.url + COMPLETE, body)
        assert status == 200
        # An interval later: at once it would fail for ever, and nothing else would get on.
        assert len(seen) >= 2
        assert seen[1] > seen[0]

    served(test, by=lambda: Policies(build("router", "fastest"), build("predictor", "history"), estimator))


@pytest.mark.parametrize(
    ("options", "by", "said"),
    [
        ({}, lambda: policies(predictor="noisy"), "is an oracle"),
        ({}, policies, "token ids alone"),
        ({"backends": ["http://127.0.0.1:9"]}, policies, "no OpenAI-compatible server answers"),
        ({"backends": ["ftp://x"]}, policies, "http://HOST:PORT"),
        ({"backends": []}, policies, "backends is empty"),
        ({"slo_ms": -1.0}, policies, "slo_ms"),
    ],
)
def test_what_cannot_be_served_is_said_at_the_start(options, by, said):
    if "token ids" in said:

        def by():
            return Policies(
                build("router", "round_robin"),
                build("predictor", "history"),
                build("estimator", "ema"),
                MoveAll(),
                build("mechanism", "kv_copy"),
            )

    async def test():
        async with emulated(*TWO) as (pool, _):
            config = ServeConfig(**{"backends": list(pool.urls), "port": 0, **options})
            await start_gateway(config, by, TelemetryConfig())

    with pytest.raises((ConfigError, SimulationError), match=said):
        asyncio.run(asyncio.wait_for(test(), 20.0))


def test_the_command_says_what_is_missing(capsys):
    assert main(["router=random"]) == 2
    assert "backends" in capsys.readouterr().err
    assert main(["backends=[http://127.0.0.1:1]", "trace=paper"]) == 2
    assert "unknown option 'trace=paper'" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert ServeConfig(backends=[]).host == "127.0.0.1"


def test_a_gateway_starts_while_a_server_is_down_and_tells_equals_apart():
    async def test(pool, http):
        config = ServeConfig(backends=[*pool.urls, "http://127.0.0.1:9"], port=0, speed=20.0)
        gateway = await start_gateway(config, policies, TelemetryConfig())
        try:
            view = gateway.service.gateway.view
            assert view.available.tolist() == [True, True, False]
            for _ in range(4):
                assert (await post(http, gateway.url + COMPLETE, {"prompt": [1], "max_tokens": 2}))[0] == 200
            names = [server.name for server in gateway.service.servers]
            assert len(set(names)) == 3
            text = await (await http.get(gateway.url + "/metrics")).text()
            up = dict(re.findall(r'gsim:server_up{server="(.+)"} (.+)', text))
            assert up == dict(zip(names, ("1.0", "1.0", "0.0"), strict=True))
        finally:
            await gateway.close()

    async def both():
        async with emulated("a40-llama-3.1-8b", "a40-llama-3.1-8b") as (pool, http):
            # Two programs that serve one instance each name it alike.
            for server in pool.servers:
                server.served.spec = replace(server.served.spec, name="A40")
            await test(pool, http)

    asyncio.run(asyncio.wait_for(both(), 20.0))


def test_servers_that_take_no_more_are_told_of_as_they_say():
    async def test(gateway, pool, http):
        for server in pool.servers:
            server.faults.begin({"kind": "unavailable"})
        async with http.post(gateway.url + COMPLETE, json={"prompt": [1]}) as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "1"
        assert gateway.service.gateway.view.available.all()

    served(test)
