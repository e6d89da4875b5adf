"""The event loop's rounds and timers: something at the end of each round, and ringing when it is time."""

from __future__ import annotations

import asyncio
import time

import pytest

from gsim.live import timer
from gsim.live.rounds import RoundLoop, run
from gsim.live.timer import Timer


def test_a_round_ends_before_the_loop_waits():
    told = []

    async def main():
        loop = asyncio.get_running_loop()
        assert isinstance(loop, RoundLoop)
        due = []

        def act():
            told.extend(due)
            due.clear()
            return False

        loop.at_the_end(act)
        loop.call_soon(due.append, "first")
        loop.call_soon(due.append, "second")
        began_s = time.monotonic()
        await asyncio.sleep(0.05)
        assert told == ["first", "second"]
        assert time.monotonic() - began_s >= 0.05

    run(main())


def test_what_the_end_of_a_round_makes_due_is_not_waited_with():
    async def main():
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def act():
            if done.done() or loop.time() < begin_s:
                return False
            loop.call_soon(done.set_result, None)
            return True

        begin_s = loop.time() + 0.01
        loop.at_the_end(act)
        loop.call_later(0.01, int)
        # Without the act's word the loop would wait for the next timer.
        loop.call_later(5.0, int)
        await done
        assert loop.time() - begin_s < 1.0

    run(main())


@pytest.fixture(params=["the system's", "the loop's"])
def kind(request, monkeypatch):
    if request.param == "the loop's":
        monkeypatch.setattr(timer, "_timer_file", lambda: -1)
    return request.param


def test_a_timer_rings_once_and_when_it_was_set_last(kind):
    async def main():
        rung = []
        one = Timer(asyncio.get_running_loop(), lambda: rung.append(time.monotonic()))
        began_s = time.monotonic()
        one.set(5.0)
        one.set(0.02)
        await asyncio.sleep(0.1)
        assert len(rung) == 1
        assert 0.019 <= rung[0] - began_s < 0.1
        for delay_s in (0.0, -1.0):
            one.set(delay_s)
            await asyncio.sleep(0.02)
        assert len(rung) == 3
        one.set(0.01)
        one.stop()
        one.set(0.02)
        one.close()
        one.close()
        await asyncio.sleep(0.05)
        assert len(rung) == 3

    asyncio.run(main())


def test_a_timer_that_is_set_anew_while_it_rings_does_not_ring_twice(kind):
    async def main():
        loop, rung = asyncio.get_running_loop(), []
        one = Timer(loop, lambda: rung.append(None))
        one.set(0.001)
        time.sleep(0.01)  # it is due, and the loop has not seen it
        one.set(0.03)
        await asyncio.sleep(0.015)
        assert rung == []
        await asyncio.sleep(0.05)
        assert len(rung) == 1
        one.close()

    asyncio.run(main())
