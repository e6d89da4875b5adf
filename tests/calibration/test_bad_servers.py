"""Servers that misbehave: every wait ends, every read is bounded, every error is a sentence, no secret is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from fake_engine import FakeEngine, FakeServer, InProcess, _Body, run_virtually
from test_measure import campaign, options

from gsim.calibration import client as module
from gsim.calibration.client import Client, masked
from gsim.calibration.measure import measure
from gsim.calibration.options import api_key
from gsim.calibration.raw import RawStore
from gsim.calibration.retries import MAX_RETRY_AFTER_S, AnswerError, ServerError, persistent, retry_after_s
from gsim.calibration.server import discover
from gsim.core import ConfigError


async def lines(*parts: str) -> AsyncIterator[bytes]:
    for part in parts:
        yield part.encode()


async def for_ever(part: str, every_s: float) -> AsyncIterator[bytes]:
    while True:
        await asyncio.sleep(every_s)
        yield part.encode()


def chunk(tokens: int | None = None, index: object = 0, **fields: object) -> str:
    usage = {} if tokens is None else {"usage": {"completion_tokens": tokens}}
    return f"data: {json.dumps({'choices': [{'index': index, 'text': ''}], **usage, **fields})}\n\n"


class Answers(httpx.AsyncBaseTransport):
    """Gives the answers of a list, one a request, and keeps what it was asked."""

    def __init__(self, *answers: Callable[[], AsyncIterator[bytes]] | tuple[int, dict[str, str], str]) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, tuple):
            status, headers, text = answer
            return httpx.Response(status, headers=headers, stream=_Body(lines(text)))
        return httpx.Response(200, stream=_Body(answer()))


def complete(answer, tokens: int = 2, url: str = "http://fake:1", **settings):
    """Ask for so many tokens; seconds that it took, with the error's text."""

    async def main() -> tuple[float, str]:
        transport = Answers(answer)
        async with Client(url, max_concurrency=1, timeout_s=2.0, transport=transport, **settings) as client:
            with pytest.raises(ServerError) as refused:
                await client.complete("m", [[1, 2]], tokens)
        return asyncio.get_running_loop().time(), str(refused.value)

    return run_virtually(main())


def test_lines_without_a_token_do_not_keep_an_answer_alive():
    for part in (": ping\n\n", 'data: {"choices": []}\n\n', chunk(0)):
        seconds, message = complete(lambda part=part: for_ever(part, 0.5))
        assert seconds == pytest.approx(2.0)
        assert "silent for 2 s" in message


def test_a_whole_answer_has_a_deadline():
    async def slow() -> AsyncIterator[bytes]:
        for tokens in range(1, 1000):
            await asyncio.sleep(1.5)
            yield chunk(tokens).encode()

    seconds, message = complete(slow, tokens=999, answer_s=10.0)
    assert seconds == pytest.approx(10.0)
    assert "took longer than 10 s" in message


def test_more_tokens_than_asked_end_the_answer_at_once():
    seconds, message = complete(lambda: for_ever(chunk(), 0.5), tokens=3)
    assert seconds == pytest.approx(2.0)
    assert "more tokens than the 3" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: 5\n", "malformed answer"),
        ("data: [1]\n", "malformed answer"),
        ("data: null\n", "malformed answer"),
        ('data: {"choices": 7}\n', "malformed answer"),
        ('data: {"choices": [3]}\n', "malformed answer"),
        ('data: {"choices": [{"index": 0}], "usage": [1]}\n', "malformed answer"),
        ('data: {"choices": [{"index": 0}], "usage": {"completion_tokens": "many"}}\n', "malformed answer"),
        (chunk(1, index=1), "malformed answer"),
        (chunk(1, index=-1), "malformed answer"),
        (chunk(1, index="0"), "malformed answer"),
        (chunk(1, index=None), "malformed answer"),
        ("data: " + "[" * 100_000 + "\n", "cut short"),
        (chunk(1) + "data: [DONE]\n", "1 of its tokens are missing"),
        ('data: {"error": {"message": "out of memory"}}\n', "failed while it answered: out of memory"),
    ],
)
def test_malformed_replies_are_errors_that_say_so(text, message):
    assert message in complete(lambda: lines(text))[1]


def test_null_usage_counts_chunks_as_tokens():
    async def main():
        good = Answers(lambda: lines(chunk(usage=None), chunk(usage=None), "data:[DONE]\n"))
        async with Client("http://fake:1", max_concurrency=1, transport=good) as client:
            return await client.complete("m", [[1]], 2)

    assert run_virtually(main()).completion_tokens == 2


def test_endless_lines_and_bodies_are_not_read_on(monkeypatch):
    monkeypatch.setattr(module, "MAX_LINE", 1000)
    monkeypatch.setattr(module, "MAX_BODY", 1000)
    assert "a line of more than 1000 bytes" in complete(lambda: for_ever("x" * 300, 0.0))[1]

    async def main() -> None:
        async with Client("http://fake:1", max_concurrency=1, transport=Answers(lambda: for_ever("x", 0.0))) as client:
            await client.get("/metrics")

    with pytest.raises(ServerError, match="/metrics: an answer of more than 1000 bytes"):
        run_virtually(main())


@pytest.mark.parametrize("version", ["no JSON", "[1]", "5", "null"])
def test_a_version_that_is_no_json_is_unknown(tmp_path, version):
    models = json.dumps({"data": [{"id": "m", "max_model_len": 512}]})

    async def main():
        metrics = "vllm:num_requests_running nonsense\nvllm:cache_config_info{} 1"
        transport = Answers(*((200, {}, text) for text in (models, version, metrics)))
        async with Client("http://fake:1", max_concurrency=1, transport=transport) as client:
            return await discover(client, options(tmp_path, kv_blocks=99, block_size=16))

    assert run_virtually(main()).version == "unknown"


@pytest.mark.parametrize("length", ['"long"', "-5", "1.5", "true"])
def test_a_model_length_that_is_none_is_refused(tmp_path, length):
    async def main() -> None:
        transport = Answers((200, {}, f'{{"data": [{{"id": "m", "max_model_len": {length}}}]}}'))
        async with Client("http://fake:1", max_concurrency=1, transport=transport) as client:
            await discover(client, options(tmp_path))

    with pytest.raises(ServerError, match="does not say max_model_len"):
        run_virtually(main())


@pytest.mark.parametrize("status", ["429", "503"])
def test_a_refusal_in_the_warm_up_and_later_is_tried_again(tmp_path, status):
    campaign(options(tmp_path), fault=lambda n: status if n in (1, 3, 61) else "")
    assert RawStore(tmp_path).read()
    with pytest.raises(ServerError, match=f"ordered fault {status}.*3 failures in a row"):
        campaign(options(tmp_path / "never", max_failures=3), fault=lambda n: status)


def test_the_server_says_how_long_to_wait():
    error = AnswerError("busy", retry_after_s=7.0)

    async def main() -> float:
        tries = iter([error, error])

        async def attempt() -> int:
            for failure in tries:
                raise failure
            return 1

        await persistent(attempt, 5)
        return asyncio.get_running_loop().time()

    assert run_virtually(main()) == pytest.approx(14.0)
    assert retry_after_s("3") == 3.0
    assert retry_after_s("1e99") == MAX_RETRY_AFTER_S
    assert [retry_after_s(text) for text in ("", "soon", "nan", "-1", "Wed, 21 Oct 2015 07:28:00 GMT")] == [0] * 5


def test_time_is_up_also_for_a_server_that_does_not_end_its_answer(tmp_path):
    async def main() -> float:
        server = FakeServer(FakeEngine(law=lambda batch: 1.5))
        await measure(options(tmp_path, max_seconds=3.0, timeout_s=2.0), InProcess(server))
        return asyncio.get_running_loop().time()

    assert run_virtually(main()) < 6.0


def test_a_histogram_that_runs_backwards_does_not_count(tmp_path):
    class Backwards(FakeEngine):
        def metrics(self) -> str:
            name = "vllm:request_prefill_time_seconds_sum"
            kept = dict(self.counters)
            self.counters[name] = -self.counters.get(name, 0.0)
            text = super().metrics()
            self.counters = kept
            return text

    async def main() -> None:
        await measure(options(tmp_path, prefill_contexts=[0]), InProcess(FakeServer(Backwards())))

    run_virtually(main())
    prefills = [m for m in RawStore(tmp_path).read() if m.kind == "prefill"]
    assert prefills
    assert all("runs backwards" in m.dropped for m in prefills)


class Rewritten(FakeEngine):
    """Its metrics say something else about prefills than what is so."""

    prefill_sum = staticmethod(lambda seconds: seconds)

    def metrics(self) -> str:
        name = "vllm:request_prefill_time_seconds_sum"
        kept = dict(self.counters)
        self.counters[name] = self.prefill_sum(self.counters.get(name, 0.0))
        text = super().metrics()
        self.counters = kept
        return text


def test_a_histogram_that_runs_ahead_does_not_count(tmp_path):
    class Ahead(Rewritten):
        prefill_sum = staticmethod(lambda seconds: 1000.0 * seconds)

    run_virtually(measure(options(tmp_path, prefill_contexts=[0]), InProcess(FakeServer(Ahead()))))
    prefills = [m for m in RawStore(tmp_path).read() if m.kind == "prefill"]
    assert prefills
    assert all("and the answer took" in m.dropped for m in prefills)


def test_an_answer_that_a_proxy_holds_back_does_not_count(tmp_path):
    class Held(FakeServer):
        async def stream(self, body, fault):
            parts = [part async for part in super().stream(body, fault)]
            yield b"".join(parts)

    run_virtually(measure(options(tmp_path, max_repeats=1), InProcess(Held(FakeEngine()))))
    decodes = [m for m in RawStore(tmp_path).read() if m.kind == "decode"]
    assert decodes
    assert all(m.dropped for m in decodes)
    assert any("came in one piece" in m.dropped for m in decodes)


def test_a_server_that_is_gone_for_a_moment_is_asked_again(tmp_path):
    """A connection that breaks while the metrics are read, not only while an answer is."""

    class Breaking(InProcess):
        asked = 0

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            self.asked += 1
            if self.asked in (20, 21, 60):
                raise httpx.ConnectError("All connection attempts failed")
            return await super().handle_async_request(request)

    run_virtually(measure(options(tmp_path), Breaking(FakeServer(FakeEngine()))))
    assert RawStore(tmp_path).read()

    class Absent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("All connection attempts failed")

    with pytest.raises(ServerError, match="no server answers there"):
        run_virtually(measure(options(tmp_path / "absent"), Absent()))


def test_packed_answers_are_not_unpacked():
    """A kilobyte of gzip can stand for gigabytes; and what is no gzip was a traceback."""
    for packed in ("gzip", "br", "zstd", "deflate, gzip"):
        assert "answers are packed" in complete((200, {"content-encoding": packed}, "\x1f\x8b nonsense"))[1]


@pytest.mark.parametrize(
    ("models", "labels"),
    [
        ('{"data": [{"id": 5, "max_model_len": 9}]}', ""),
        ('{"data": [{"id": null, "max_model_len": 9}, {"id": "m", "max_model_len": 9}]}', ""),
        ('{"data": [{"id": ["m"], "max_model_len": 9}]}', ""),
        ('{"data": {"id": "m"}}', ""),
        ('{"data": [{"id": "m", "max_model_len": 9}]}', 'num_gpu_blocks="\u00b2",block_size="16"'),
        ('{"data": [{"id": "m", "max_model_len": 9}]}', f'num_gpu_blocks="{"9" * 5000}",block_size="16"'),
        ('{"data": [{"id": "m", "max_model_len": 9}]}', 'num_gpu_blocks="-5",block_size="1e3"'),
    ],
)
def test_what_a_server_says_of_itself_is_read_with_care(tmp_path, models, labels):
    async def main() -> None:
        metrics = f"vllm:num_requests_running 0\nvllm:cache_config_info{{{labels}}} 1"
        transport = Answers(*((200, {}, text) for text in (models, "{}", metrics)))
        async with Client("http://fake:1", max_concurrency=1, transport=transport) as client:
            await discover(client, options(tmp_path))

    with pytest.raises((ServerError, ConfigError), match=r"not the answer of an OpenAI|does not report its KV cache"):
        run_virtually(main())


@pytest.mark.parametrize("key", ["sk-secret\n", "sk secret", "sk-s\u00e9cret", "\x00sk"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(tmp_path, monkeypatch, key):
    monkeypatch.setenv("MY_KEY", key) if "\x00" not in key else monkeypatch.setattr("os.environ", {"MY_KEY": key})
    with pytest.raises(ConfigError, match="MY_KEY: a key is one word") as refused:
        api_key("MY_KEY")
    assert "cret" not in str(refused.value)


def test_secrets_are_sent_and_neither_kept_nor_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MY_KEY", "sk-secret")

    class Watched(InProcess):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            assert request.headers["authorization"] == "Bearer sk-secret"
            return await super().handle_async_request(request)

    asked = options(tmp_path, api_key_env="MY_KEY", url="http://fake:1")

    async def main(chosen) -> None:
        await measure(chosen, Watched(FakeServer(FakeEngine())))

    run_virtually(main(asked))
    monkeypatch.setenv("OPENAI_API_KEY", "")
    campaign(options(tmp_path / "url", url="http://me:pass-word@fake:1"))
    refusal = (401, {}, '{"error": {"message": "Incorrect API key provided: sk-secret"}}')
    message = complete(refusal, url="http://me:pass-word@fake:1", api_key="sk-secret")[1]
    assert message == "http://me:***@fake:1/v1/completions: HTTP 401: Incorrect API key provided: ***"
    printed = "".join(capsys.readouterr())
    for text in (printed, *(file.read_text() for file in tmp_path.rglob("*.json*"))):
        assert "sk-secret" not in text
        assert "pass-word" not in text
    assert masked("http://host:1/v1") == "http://host:1/v1"
    with pytest.raises(ConfigError, match="api_key_env=NONE_SUCH: there is no such environment variable"):
        run_virtually(main(options(tmp_path, api_key_env="NONE_SUCH")))
