"""What passes a stream on: usual events recognised, writes of a round together, old clients, events in any pieces."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_cases import post, run

from gsim.live.bodies import read_asked
from gsim.live.outlet import Outbox
from gsim.serve.exchange import Exchange
from gsim.serve.frame import Frame
from gsim.serve.sender import Sender
from gsim.serve.writer import Writer

COMPLETE = "/v1/completions"


def event(text: str, ids: list[int] | None, chat: bool = True, **more: object) -> bytes:
    said = {"delta": {"content": text}} if chat else {"text": text}
    told = {} if ids is None else {"token_ids": ids}
    choice = {"index": 0, **said, "logprobs": None, "finish_reason": None, **told, **more}
    return json.dumps(
        {"id": "x", "model": "m", "choices": [choice]}, separators=(",", ":"), ensure_ascii=False
    ).encode()


def learned(chat: bool, ids: list[int] | None) -> Frame:
    frame, one = Frame(), event(" some", ids, chat)
    frame.learn(one, json.loads(one), " some", ids)
    assert frame.known
    return frame


@given(st.text(), st.lists(st.integers(0, 200_000), max_size=4), st.booleans())
def test_a_form_reads_what_json_reads_or_nothing(text, ids, chat):
    for with_ids in (True, False):
        frame = learned(chat, [1234] if with_ids else None)
        told = frame.read(event(text, ids if with_ids else None, chat))
        if told is not None:
            assert told == (ids if with_ids else [], text)
    plain = text.isascii() and text.isprintable() and not set(text) & set('"\\')
    assert (told is not None) == plain


def test_what_is_unusual_is_not_of_the_form():
    frame = learned(True, [1234])
    for more in ({"finish_reason": "length"}, {"index": 1}, {"stop_reason": 7}):
        assert frame.read(event(" some", [1234], **more)) is None
    assert frame.read(event(" some", None)) is None
    assert frame.read(b"[DONE]") is None
    assert frame.read(b"") is None
    usual = event(" some", [1234])
    assert frame.read(usual) == ([1234], " some")
    # Whatever is cut, said twice or said besides is read in full, and judged there.
    for wrong in (
        usual[:-1],
        usual[1:],
        usual + usual,
        usual.replace(b"[1234]", b"[1234,]"),
        usual.replace(b"1234", b"-1"),
    ):
        assert frame.read(wrong) is None


def test_a_form_that_is_not_certain_is_not_learned():
    frame = Frame()
    for text, ids in (("m", [12]), ("index", [12]), ('a"b', [12]), ("caf\u00e9", [12])):
        one = event(text, ids)
        frame.learn(one, json.loads(one), text, ids)
        assert not frame.known
    one = event(" some", [0])
    frame.learn(one, json.loads(event(" some", [0], index=3)), " some", [0])  # not the content of this event
    assert not frame.known


def test_writes_of_a_round_go_together():
    class Written:
        def __init__(self, closing=False):
            self.data, self.closing = [], closing

        def is_closing(self):
            return self.closing

        def write(self, data):
            self.data.append(data)

    async def main():
        outbox, one, gone = Outbox(), Written(), Written(closing=True)
        outbox.add(one, b"a")
        outbox.add(gone, b"b")
        outbox.add(one, b"c")
        assert one.data == []
        await asyncio.sleep(0)
        assert (one.data, gone.data) == ([b"a", b"c"], [])
        outbox.add(one, b"d")
        outbox.flush()
        await asyncio.sleep(0)
        assert one.data[2:] == [b"d"]

    asyncio.run(main())


def test_what_a_slow_client_has_not_taken_is_gathered():
    class Outlet:
        def __init__(self):
            self.free, self.sent = True, []

        def send(self, data):
            self.sent.append(data)

    body = {"prompt": [1], "max_tokens": 9, "temperature": 0, "stream": True}
    exchange = Exchange(read_asked(body, chat=False), body, {}, "r", "greedy")
    outlet, sender = Outlet(), Sender(exchange, Writer(exchange, "cmpl-r", 0, "m"))
    exchange.news = lambda: sender.send_on(outlet)
    exchange.add([7], " one", last=False)
    outlet.free = False
    exchange.add([8], " two", last=False)
    exchange.add([9], " three", last=False)
    assert len(outlet.sent) == 1
    assert json.loads(sender.take()[6:])["choices"][0]["text"] == " two three"
    # The last is not sent by itself, and comes with the reason of the end.
    outlet.free = True
    exchange.add([10], " four", last=True)
    exchange.end("length")
    assert len(outlet.sent) == 1
    choice = json.loads(sender.take()[6:])["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (" four", "length")
    assert sender.take() == b""


def test_an_end_without_a_token_is_told():
    body = {"prompt": [1], "max_tokens": 9, "temperature": 0, "stream": True}
    exchange = Exchange(read_asked(body, chat=False), body, {}, "r", "greedy")
    sender = Sender(exchange, Writer(exchange, "cmpl-r", 0, "m"))
    exchange.add([7], " one", last=False)
    assert b'"finish_reason":null' in sender.take()
    exchange.end("stop")
    assert b'"finish_reason":"stop"' in sender.take()


@pytest.mark.parametrize("stays", [False, True])
def test_a_client_of_http_1_0_gets_the_stream_unchunked(stays):
    from gateway_cases import policies

    from gsim.gateway.telemetry_config import TelemetryConfig
    from gsim.serve.config import ServeConfig
    from gsim.serve.running import start_gateway

    async def test(pool, http):
        body = {"prompt": [5, 6, 7], "max_tokens": 40, "temperature": 0.5 if stays else 0, "stream": True}
        _, whole = await post(http, pool.urls[0] + COMPLETE, {**body, "stream": False})
        config = ServeConfig(backends=list(pool.urls), port=0, speed=20.0)
        gateway = await start_gateway(config, policies, TelemetryConfig())
        for url in (pool.urls[0], gateway.url):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            data = json.dumps(body).encode()
            writer.write(b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data))
            answer = (await reader.read()).partition(b"\r\n\r\n")[2]
            events = [part.removeprefix(b"data: ") for part in answer.split(b"\n\n") if part]
            assert events[-1] == b"[DONE]"
            assert (
                "".join(json.loads(part)["choices"][0]["text"] for part in events[:-1]) == whole["choices"][0]["text"]
            )
            writer.close()
        await gateway.close()

    run(test)
