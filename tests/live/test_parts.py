"""The parts of live serving: real time, contents of token ids, filler text, server-sent events."""

from __future__ import annotations

import asyncio
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsim.core import Request
from gsim.gateway.clock import Alarm, Clock
from gsim.live.contents import Contents
from gsim.live.pace import Pace
from gsim.live.prompts import prompt_ids
from gsim.live.sse import Events
from gsim.live.vocabulary import LOWEST_ID, Vocabulary
from gsim.live.waiter import Waiter


def names(content):
    """Every token of a content by its name."""
    return [(segment, k) for segment, tokens in content for k in range(tokens)]


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=12))
def test_prompts_share_names_exactly_as_far_as_they_share_ids(prompts):
    contents = Contents(10_000)
    known = [(prompt, names(contents.pieces(prompt))) for prompt in prompts]
    for a, named_a in known:
        assert len(named_a) == len(a)
        for b, named_b in known:
            for k in range(min(len(a), len(b))):
                assert (named_a[: k + 1] == named_b[: k + 1]) == (a[: k + 1] == b[: k + 1])


def test_what_was_generated_is_the_beginning_of_what_comes_after_it():
    contents = Contents(1000)
    prompt, output = [1, 2, 3], [7, 8]
    before = contents.pieces(prompt)
    segment = contents.new_segment()
    contents.generated(prompt, output, segment)
    assert contents.pieces([1, 2, 3, 7, 8, 9])[:2] == (*before, (segment, 2))


def test_contents_forget_what_was_not_used_for_longest():
    contents = Contents(100)
    kept = contents.pieces(list(range(20)))
    for i in range(20):
        contents.pieces([1000 + i] * 10)
        assert contents.pieces(list(range(20))) == kept
    assert len(contents) <= 100
    assert contents.pieces([1000] * 10) != kept


@given(st.integers(0, 1 << 14), st.integers(1, 50))
def test_generated_text_counts_as_it_was_generated(start, tokens):
    words = Vocabulary()
    ids = [LOWEST_ID + start]
    for _ in range(tokens):
        ids.append(words.next_id(ids[-1]))
    text = "".join(map(words.text_of, ids[1:]))
    assert words.ids_of(text) == ids[1:]
    assert len(set(ids[1:])) == tokens  # one cycle: nothing comes twice


def test_the_words_are_one_cycle():
    words = Vocabulary(2000)
    seen, token = set(), LOWEST_ID
    while token not in seen:
        seen.add(token)
        token = words.next_id(token)
    assert len(seen) == words.words == 1024
    assert max(seen) < 2000


@given(st.lists(st.binary(max_size=10), max_size=6), st.integers(1, 7))
def test_events_are_the_same_however_they_are_cut(payloads, size):
    payloads = [payload.replace(b"\n", b"n").replace(b"\r", b"r") for payload in payloads]
    wire = b"".join(b"data: " + payload + b"\n\n" for payload in payloads)
    events = Events()
    found = [event for i in range(0, len(wire), size) for event in events.feed(wire[i : i + size])]
    assert found == payloads


def test_prompts_of_one_segment_have_one_beginning():
    long = Request(1, 0.0, 50, 10, inf, content=((3, 30), (4, 20)))
    short = Request(2, 0.0, 20, 10, inf, content=((3, 20),))
    alone = Request(3, 0.0, 20, 10, inf)
    assert prompt_ids(long, {})[:20] == prompt_ids(short, {})
    assert prompt_ids(alone, {}) != prompt_ids(alone._replace(request_id=4), {})
    assert prompt_ids(long, {4: [9] * 5})[30:35] == [9] * 5
    assert len(prompt_ids(long, {4: [9] * 99})) == 50


def test_real_time_drives_the_clock_and_survives_errors():
    async def main():
        clock, rung, errors = Clock(), [], []
        pace = Pace(clock, speed=10.0, on_error=errors.append)
        alarm = Alarm(clock, lambda: rung.append(clock.now))

        def fail():
            raise ValueError("broken")

        pace.do(alarm.set, 0.2)
        pace.do(clock.after, 0.1, fail)
        waiter = Waiter()
        pace.do(clock.after, 0.4, waiter.wake)
        await asyncio.wait_for(waiter.wait(), 5.0)
        assert rung == [pytest.approx(0.2, abs=0.05)]
        assert [str(error) for error in errors] == ["broken"]
        pace.close()

    asyncio.run(main())
