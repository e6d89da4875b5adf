"""The fast engine is the reference engine: same events, same order, same times, same KV, whatever happens to both."""

from __future__ import annotations

import math
import random

import pytest
from engine_cases import any_latency, any_limits, drain, job
from hypothesis import event, given, settings
from hypothesis import strategies as st
from pool_cases import check_tree

from gsim.core.scheduling import Forecast
from gsim.engine.decode_clock import DecodeClockEngine
from gsim.engine.stepwise import StepwiseEngine


class Pair:
    """Two engines that are treated alike and compared whenever they are looked at."""

    def __init__(self, latency, limits) -> None:
        self.engines = (StepwiseEngine(latency, limits), DecodeClockEngine(latency, limits))
        self.events: tuple[list, list] = ([], [])
        self.counts: tuple[dict, dict] = ({}, {})
        self.stalled = False

    def both(self, method, *arguments):
        """The same call on both; both answers, or both KeyErrors."""
        answers = []
        for engine in self.engines:
            try:
                answers.append(getattr(engine, method)(*arguments))
            except KeyError:
                answers.append(KeyError)
        return answers

    def advance(self, to_s: float) -> None:
        for engine, events in zip(self.engines, self.events, strict=True):
            events += engine.advance(to_s)
        self.compare_events()

    def run_until(self, to_s: float) -> None:
        """As the cluster does it: from event to event."""
        for engine, events in zip(self.engines, self.events, strict=True):
            while engine.next_event_s() <= to_s:
                events += engine.advance(engine.next_event_s())

    def compare_events(self) -> None:
        reference, fast = self.events
        assert [event[1:] for event in fast] == [event[1:] for event in reference]
        for ours, theirs in zip(fast, reference, strict=True):
            assert ours.time_s == pytest.approx(theirs.time_s, rel=1e-9, abs=1e-12)
        assert all(event.ticket in (None, f"ticket {event.request_id}") for event in fast)
        times = [event.time_s for event in fast]
        assert times == sorted(times)

    def followed(self, now_s: float, here: list[int]) -> list[dict[int, int]]:
        """The tokens of who is ``here`` as an observer knows them who keeps what each engine told it."""
        tokens = []
        for engine, counts in zip(self.engines, self.counts, strict=True):
            clock, changed = engine.streams(now_s)
            assert all(count.ticket in (None, f"ticket {count.request_id}") for count in changed)
            counts.update({count.request_id: count for count in changed})
            known = {i: counts[i] for i in here if i in counts}
            tokens.append({i: known[i].tokens + clock * known[i].decoding if i in known else 0 for i in here})
        return tokens

    def compare_state(self, now_s: float) -> None:
        reference, fast = self.both("gauges", now_s)
        assert fast == reference
        self.stalled |= self.engines[0]._stalled
        reference, fast = self.both("progress", now_s)
        assert dict(zip(*fast, strict=True)) == dict(zip(*reference, strict=True))
        assert self.followed(now_s, reference[0]) == [dict(zip(*reference, strict=True))] * 2
        for pool in (self.engines[0].pool, self.engines[1].clocked.pool):
            assert pool.has_idle == (pool.idle.oldest is not None)
        check_tree(self.engines[1].clocked.pool)
        reference, fast = self.both("busy_s", now_s)
        assert fast == pytest.approx(reference, rel=1e-9, abs=1e-9)

    def release_one(self, rng: random.Random, now_s: float) -> bool:
        """Release one of the prefilled requests that have not been; whether there was one."""
        kept = sorted(self.engines[0].scheduler.kept)
        assert kept == sorted(self.engines[1].clocked.scheduler.kept)
        if kept:
            self.both("release", rng.choice(kept), now_s)
        return bool(kept)

    def finish(self, rng: random.Random, now_s: float) -> None:
        while True:
            for engine, events in zip(self.engines, self.events, strict=True):
                events += drain(engine)
            self.compare_events()
            # A last iteration may have ended without an event.
            now_s = max(now_s, *(engine._boundary_s for engine in self.engines))
            self.compare_state(now_s)
            now_s += rng.choice([0.0, 0.5])
            if not self.release_one(rng, now_s):
                break
        end_s = now_s + 1.0
        self.compare_state(end_s)
        # Every block is back.
        assert self.engines[0].gauges(end_s) == (0, 0, 0.0)


def play(seed: int, latency, limits) -> Pair:
    """A random life for a pair of engines: arrivals, prefill legs, releases, aborts, slow-downs, looks in between."""
    rng = random.Random(seed)
    pair = Pair(latency, limits)
    now_s = 0.0
    sharing = rng.choice(["none", "some", "all"])
    prefills = rng.choice([0.0, 0.5, 0.9])
    earlier: list[tuple] = []
    live: list[int] = []
    for number in range(rng.randint(1, 30)):
        if rng.random() < 0.7:
            now_s += rng.expovariate(1 / rng.choice([0.01, 0.1, 1.0]))
        if rng.random() < 0.5:
            pair.run_until(now_s)
        content = ()
        prompt = rng.randint(1, rng.choice([10, 80]))
        output = rng.randint(1, rng.choice([3, 40, 200]))
        segment = rng.choice([-1, 5000 + number])
        if sharing == "all" or (sharing == "some" and rng.random() < 0.5):
            content = random_content(rng, number, earlier)
            prompt = sum(tokens for _, tokens in content)
            earlier.append((content, segment, output))
        known = {"priority": rng.randint(0, 2), "slo_s": rng.choice([0.3, 10.0, math.inf])}
        known["forecast"] = rng.choice([None, Forecast(rng.uniform(1.0, 100.0))])
        new = job(number, now_s, prompt, output, content=content, output_segment=segment, **known)
        if rng.random() < prefills:
            pair.both("prefill", new, now_s, f"ticket {number}")
        else:
            pair.both("submit", new, now_s, rng.choice([0, 0, 0, rng.randint(0, prompt)]), f"ticket {number}")
        live.append(number)
        if rng.random() < 0.3:
            pair.advance(now_s)
            pair.release_one(rng, now_s)
        if rng.random() < 0.2:
            now_s += rng.choice([0.0, rng.expovariate(5)])
            pair.advance(now_s)
            reference, fast = pair.both("abort", rng.choice(live), now_s)
            assert fast == reference
        if rng.random() < 0.1:
            pair.both("set_speed", rng.choice([0.5, 1.0, 2.0]), now_s)
        if rng.random() < 0.5:
            now_s += rng.expovariate(20)
            pair.compare_state(now_s)
    pair.finish(rng, now_s)
    return pair


def random_content(rng: random.Random, number: int, earlier: list[tuple]) -> tuple:
    """New text behind nothing, a common prefix, an earlier prompt, or an earlier prompt and its output."""
    fresh = (1000 + number, rng.randint(1, 20))
    if not earlier or rng.random() < 0.5:
        return ((rng.choice([1, 2, 3]), rng.randint(1, 60)), fresh)
    content, segment, output = rng.choice(earlier)
    if segment >= 0 and rng.random() < 0.6:
        content = (*content, (segment, output))
    return (*content, fresh) if rng.random() < 0.6 else content


@given(seed=st.integers(0, 2**32), latency=any_latency(), limits=any_limits())
@settings(max_examples=250)
def test_decode_clock_is_stepwise(seed, latency, limits):
    pair = play(seed, latency, limits)
    event(f"preempted: {any(kind == 2 for _, kind, *_ in pair.events[0])}")


def test_random_cases_reach_every_kind_of_change():
    """The property above is worth something only if its cases preempt, reject, hit the cache and run long."""
    from engine_cases import AffineTime, limits

    seen = set()
    longest_s = 0.0
    for seed in range(20):
        pair = play(seed, AffineTime(), limits(kv_blocks=16, max_model_len=90, max_num_batched_tokens=32))
        for told in pair.events[1]:
            seen.add(told.kind)
            longest_s = max(longest_s, told.time_s)
            if told.cached_tokens:
                seen.add("hit")
        if pair.stalled:
            seen.add("stalled")
    assert seen == {0, 1, 2, 3, 4, "hit", "stalled"}
    assert longest_s > 1.0


def test_equal_instants_share_the_first_iteration():
    """Everything that is submitted at the instant at which an iteration starts is in its batch."""
    from engine_cases import AffineTime, limits

    pair = Pair(AffineTime(), limits())
    for number in range(4):
        pair.both("submit", job(number, 1.0), 1.0)
        # Looking for the next event must not fix the batch.
        assert all(engine.next_event_s() > 1.0 for engine in pair.engines)
    pair.finish(random.Random(0), 1.0)
    assert len({event.time_s for event in pair.events[1]}) == 2


@pytest.mark.parametrize("engine_type", [StepwiseEngine, DecodeClockEngine])
def test_looking_does_not_disturb(engine_type):
    from engine_cases import AffineTime, limits

    def life(look: bool):
        engine = engine_type(AffineTime(), limits(kv_blocks=30))
        events = []
        for number in range(12):
            now_s = 0.037 * number
            engine.submit(job(number, now_s, 30 + number, 40), now_s)
            if look:
                engine.gauges(now_s + 0.011)
                engine.progress(now_s + 0.017)
                engine.busy_s(now_s + 0.023)
                engine.next_event_s()
        events += drain(engine)
        return events

    looked, alone = life(True), life(False)
    assert [event[1:] for event in looked] == [event[1:] for event in alone]
    assert [event[0] for event in looked] == pytest.approx([event[0] for event in alone], rel=1e-12)


def test_doubling_every_duration_doubles_every_time():
    from engine_cases import AffineTime, limits

    def times(factor: float):
        latency = AffineTime(0.01 * factor, 1e-5 * factor, 1e-7 * factor, 1e-9 * factor)
        engine = DecodeClockEngine(latency, limits(kv_blocks=60))
        for number in range(20):
            now_s = 0.0371 * number * factor
            engine.submit(job(number, now_s, 30, 50 + number), now_s)
        return [event.time_s for event in drain(engine)]

    assert times(2.0) == [2.0 * time_s for time_s in times(1.0)]
    assert math.isfinite(sum(times(1.0)))
