"""What a move must keep: the text where a seam cuts a character in two, counts, and requests that are more than ids."""

from __future__ import annotations

import asyncio
import codecs

import pytest
from gateway_cases import CHAT, COMPLETE, GREEDY, moving, served, told
from live_cases import all_chunks

from gsim.emulate.answer import Answer
from gsim.emulate.answer import Writer as AnswerWriter
from gsim.live.bodies import read_asked
from gsim.serve.exchange import why_it_stays
from gsim.serve.server_backend import ServerBackend


@pytest.fixture
def half_characters(monkeypatch):
    """Servers whose tokens are bytes: of an even one comes the first half of a character, of an odd one the second.

    Text comes as a tokenizer gives it: nothing for a half, and a sign of replacement where the second half is the first
    thing that a server generates. No event has the first half of a character behind other text.
    """
    decoders = {}

    def take(answer, vocabulary):
        decoder = decoders.setdefault(answer, codecs.getincrementaldecoder("utf-8")("replace"))
        ids, text = [], ""
        while answer.sent < answer.tokens:
            last = answer.output_ids[-1] if answer.output_ids else answer.prompt_ids[-1]
            token = vocabulary.next_id(last)
            if text and token % 2 == 0 and answer.sent + 1 == answer.tokens and not answer.done:
                break
            ids.append(token)
            text += decoder.decode(b"\xa9" if token % 2 else b"\xc3")
            answer.output_ids.append(token)
            answer.sent += 1
        return ids, text

    monkeypatch.setattr(Answer, "take", take)


@pytest.fixture
def cut(monkeypatch):
    """How many token ids were left behind at moves, because their text was not complete."""
    left = []
    abort = ServerBackend.abort

    def counted(backend, request_id, now_s):
        left.append(len(backend._here[request_id].held))
        return abort(backend, request_id, now_s)

    monkeypatch.setattr(ServerBackend, "abort", counted)
    return left


@pytest.mark.parametrize("chat", [False, True])
def test_a_character_that_the_seam_cuts_is_whole(half_characters, cut, chat):
    path = CHAT if chat else COMPLETE

    def prompt(i):
        return {"messages": [{"role": "user", "content": f"tell {i}"}]} if chat else {"prompt": [300 + i, 7]}

    async def test(gateway, pool, http):
        bodies = [{**prompt(i), "max_tokens": 200, **GREEDY} for i in range(12)]
        still = [told(await all_chunks(http, pool.urls[0] + path, body)) for body in bodies]
        moved = await asyncio.gather(*(all_chunks(http, gateway.url + path, body) for body in bodies))
        for (ids, text, _), parts in zip(still, moved, strict=True):
            # An answer may begin and end in the middle of a character.
            assert set(text[1:-1]) == {"é"}
            assert told(parts)[:2] == (ids, text)
            assert parts[-2]["usage"]["completion_tokens"] == len(ids) == 200
        assert gateway.service.gateway.counters["migrations"] == 36
        assert sum(cut) > 0, "no seam was inside a character"
        assert cut.count(0) > 0

    served(test, by=lambda: moving(3))


STAYS = [
    *({"n": 2}, {"best_of": 2}, {"logprobs": 1}, {"top_logprobs": 2}, {"prompt_logprobs": 1}, {"echo": True}),
    *({"seed": 0}, {"stop": "x"}, {"stop": ["x"]}, {"stop_token_ids": [5]}, {"bad_words": ["x"]}, {"suffix": "x"}),
    *({"presence_penalty": 0.1}, {"frequency_penalty": -0.1}, {"repetition_penalty": 1.1}, {"logit_bias": {"5": 1}}),
    *({"response_format": {"type": "json_object"}}, {"structured_outputs": {"regex": "a"}}, {"guided_json": {}}),
    *({"guided_regex": "a"}, {"tools": [{"type": "function"}]}, {"tool_choice": "auto"}, {"functions": [{}]}),
    *({"use_beam_search": True}, {"allowed_token_ids": [5]}, {"prompt_embeds": "x"}, {"temperature": 0.1}),
]


@pytest.mark.parametrize("field", STAYS, ids=lambda field: "-".join(map(str, next(iter(field.items())))))
def test_what_has_more_state_than_its_tokens_is_refused(field):
    body = {"prompt": [5, 6], "max_tokens": 5, "temperature": 0}
    asked = read_asked(body, chat=False)
    assert why_it_stays(asked, body, "greedy") == ""
    assert why_it_stays(asked, body | field, "greedy") == next(iter(field))
    assert why_it_stays(asked, body, "none") == "moves are off"


def test_a_field_that_asks_for_nothing_keeps_nobody():
    nothing = {"n": 1, "best_of": 1, "logprobs": False, "seed": None, "stop": [], "presence_penalty": 0.0, "tools": []}
    body = {"prompt": [5, 6], "max_tokens": 5, "temperature": 0.0, "repetition_penalty": 1.0, **nothing}
    assert why_it_stays(read_asked(body, chat=False), body, "greedy") == ""


def test_sampled_requests_move_where_that_is_allowed():
    async def test(gateway, pool, http):
        body = {"prompt": [5, 6], "max_tokens": 200, **GREEDY, "temperature": 0.8}
        parts = await all_chunks(http, gateway.url + COMPLETE, body)
        assert len(told(parts)[0]) == 200
        assert gateway.service.gateway.counters["migrations"] == 2

    served(test, by=moving, moves="sampled")


def test_chats_of_a_server_that_parses_reasoning_stay(monkeypatch):
    chunk = AnswerWriter.chunk

    def reasoned(writer, answer, ids, text):
        return chunk(writer, answer, ids, text).replace(b'"delta":{"content":', b'"delta":{"reasoning_content":')

    monkeypatch.setattr(AnswerWriter, "chunk", reasoned)

    async def test(gateway, pool, http):
        body = {"messages": [{"role": "user", "content": "why"}], "max_tokens": 50, "temperature": 0}
        for _ in range(2):
            parts = await all_chunks(http, gateway.url + CHAT, body)
            said = [part["choices"][0]["delta"].get("reasoning_content", "") for part in parts[:-1]]
            assert len("".join(said).split()) == 50
        # It is found out once.
        assert gateway.service.gateway.counters["retries"] == 1
        assert gateway.service.gateway.counters["migrations"] == 0
        # Completions are parsed by nobody.
        parts = await all_chunks(http, gateway.url + COMPLETE, {"prompt": [5], "max_tokens": 200, **GREEDY})
        assert len(told(parts)[0]) == 200
        assert gateway.service.gateway.counters["migrations"] == 2

    served(test, by=moving)
