"""Speculative decoding: what is proposed, accepted and paid for, and that answers are exactly as long as asked."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from engine_cases import AffineTime, any_limits, drain, job, limits
from hypothesis import given, settings
from hypothesis import strategies as st

from gsim.core import Batch, ConfigError, EventKind, Streams
from gsim.core.batch import Chunk
from gsim.core.registry import register
from gsim.engine import EngineConfig, make_engine
from gsim.engine.decode_clock import DecodeClockEngine
from gsim.engine.speculation import SpeculationConfig
from gsim.engine.stepwise import StepwiseEngine
from gsim.optimum import Server


@dataclass
class Watched:
    """A latency model that remembers what it was asked."""

    batches: list[Batch] = field(default_factory=list)

    def iteration_s(self, batch: Batch) -> float:
        self.batches.append(batch)
        return 0.01


def speculating(**fields) -> SpeculationConfig:
    return SpeculationConfig(**{"num_speculative_tokens": 3, "acceptance": 0.7, "draft_share": 0.0, **fields})


def engine(config, latency=None, streams=None, **fields) -> StepwiseEngine:
    return StepwiseEngine(latency or AffineTime(), limits(speculation=config, **fields), streams)


@pytest.mark.parametrize("fields", [{"acceptance": 0.7}, {"acceptance": 0.3, "num_speculative_tokens": 5}])
def test_tokens_per_iteration_are_the_closed_form(fields):
    config = speculating(**fields)
    k, a = config.num_speculative_tokens, config.acceptance
    expected = (1 - a ** (k + 1)) / (1 - a)
    assert config.tokens_per_iteration() == pytest.approx(expected, rel=1e-12)
    assert_measured(config, expected)


def test_a_measured_curve_is_met_at_every_position():
    config = speculating(acceptance=None, curve=(0.8, 0.5, 0.4, 0.1))
    assert config.tokens_per_iteration() == pytest.approx(2.7)
    assert_measured(config, 2.7)
    # Classes may have a chance of their own beside it.
    beside = speculating(acceptance={"code": 0.9}, curve=(0.8, 0.5, 0.4))
    assert beside.chances("code") == (0.9, 0.9, 0.9)
    assert beside.chances("prose") == pytest.approx((0.8, 0.625, 0.8))


def assert_measured(config: SpeculationConfig, expected: float) -> None:
    """Mean tokens of 4,000 verifications or more, within 4 standard errors (a verification varies by less than k)."""
    here = engine(config, max_model_len=60_000, kv_blocks=4000)
    for number in range(4):
        here.submit(job(number, 0.0, 10, 2500), 0.0)
    drain(here)
    counts = here.counts()
    n = counts["verified"]
    # The last verification of a request is cut, which takes off less than k tokens from four of thousands.
    slack = 4 * 0.5 * config.num_speculative_tokens / math.sqrt(n) + 4 * config.num_speculative_tokens / n
    assert 1 + counts["accepted_tokens"] / n == pytest.approx(expected, abs=slack)
    assert n > 2000


def test_classes_of_requests_have_their_own_chances():
    config = speculating(acceptance={"code": 1.0, "other": 0.0})
    here = engine(config)
    here.submit(job(0, 0.0, 10, 9, task="code"), 0.0)
    here.submit(job(1, 0.0, 10, 9, task="prose"), 0.0)
    ends = {event.request_id: event.time_s for event in drain(here) if event.kind is EventKind.FINISHED}
    # The prompt's iteration, then 8 tokens: 4 at a time, or one by one.
    assert here.counts()["verified"] == 2 + 8
    assert ends[0] < ends[1]


def test_what_the_card_computes():
    """A verification is a decode, which reads the KV once, and k tokens behind it; the drafter is free."""
    watched = Watched()
    here = engine(speculating(acceptance=0.0), watched)
    here.submit(job(0, 0.0, 20, 3), 0.0)
    drain(here)
    assert watched.batches == [
        Batch((Chunk(20, 0),), 0, 0, 0),
        Batch((Chunk(3, 21),), 1, 20, 0),
        Batch((Chunk(3, 22),), 1, 21, 0),
    ]


def test_the_drafter_is_paid_for():
    """k passes after every iteration that yields a token: the first over what was computed, others over one each."""
    latency = AffineTime(0.01, 1e-4, 0.0, 0.0)
    config = speculating(acceptance=1.0, draft_share=0.5, draft_s=0.002)
    here = engine(config, latency, max_num_batched_tokens=32)
    here.submit(job(0, 0.0, 40, 5), 0.0)
    events = drain(here)
    first_chunk = latency.iteration_s(Batch((Chunk(32, 0),), 0, 0)) * 1.5
    decode_s = latency.iteration_s(Batch((), 1, 40))
    rest = latency.iteration_s(Batch((Chunk(8, 32),), 0, 0)) * 1.5 + decode_s + 0.006
    verify = latency.iteration_s(Batch((Chunk(3, 41),), 1, 40)) * 1.5 + decode_s + 0.006
    assert [event.time_s for event in events] == pytest.approx([first_chunk + rest, first_chunk + rest + verify])


def test_nothing_accepted_and_nothing_paid_is_plain_decoding():
    plain = StepwiseEngine(Watched(), limits())
    here = engine(speculating(acceptance=0.0), Watched())
    for each in (plain, here):
        for number in range(6):
            each.submit(job(number, 0.013 * number, 30, 7 + number), 0.013 * number)
    assert drain(here) == drain(plain)


@given(seed=st.integers(0, 2**32), bounds=any_limits(), k=st.integers(1, 6), chance=st.sampled_from([0.0, 0.6, 1.0]))
@settings(max_examples=60)
def test_answers_are_exactly_as_long_as_asked(seed, bounds, k, chance):
    """Also where the memory is tight, prompts are preempted in the middle, and requests are aborted."""
    import dataclasses
    import random

    rng = random.Random(seed)
    config = speculating(num_speculative_tokens=k, acceptance=chance)
    # Nobody outgrows the pool, as vLLM demands: proposals alone must then never keep a request from going on.
    longest = min(bounds.max_model_len, bounds.kv_blocks * bounds.block_size)
    bounds = dataclasses.replace(bounds, speculation=config, max_model_len=longest)
    here = StepwiseEngine(AffineTime(), bounds, Streams(seed))
    asked = {}
    now_s = 0.0
    for number in range(rng.randint(1, 12)):
        now_s += rng.choice([0.0, 0.02, 0.3])
        content = ((rng.choice([1, 2]), 13), (100 + number, 9)) if rng.random() < 0.5 else ()
        new = job(number, now_s, 22 if content else rng.randint(1, 50), rng.randint(1, 60), content=content)
        here.submit(new, now_s)
        asked[number] = min(new.output_tokens, longest - new.request.prompt_tokens)
        if rng.random() < 0.1 and number in here.progress(now_s)[0]:
            here.abort(number, now_s)
            asked.pop(number)
    events = drain(here)
    rejected = {event.request_id for event in events if event.kind is EventKind.REJECTED}
    ended = {event.request_id: event.generated_tokens for event in events if event.kind is EventKind.FINISHED}
    assert ended == {number: tokens for number, tokens in asked.items() if number not in rejected}
    assert here.gauges(1e9) == (0, 0, 0.0)
    counts = here.counts()
    assert counts["accepted_tokens"] <= counts["drafted_tokens"] <= k * counts["verified"]


def test_proposals_enter_no_cache():
    """Blocks that only proposed tokens would fill have no name: nobody may hit what may be rejected."""
    here = engine(speculating(num_speculative_tokens=40, acceptance=0.0), block_size=4)
    here.submit(job(0, 0.0, 8, 9, content=((1, 8),), output_segment=7), 0.0)
    while here.next_event_s() < math.inf:
        known = max((sequence.length for sequence in here.scheduler.running), default=0)
        here.advance(here.next_event_s())
        assert len(here.pool.cached) <= max(known, 16) // 4
    assert len(here.pool.cached) == 4


def test_the_same_token_meets_the_same_luck():
    """Whatever else is in the batch, and after a move: so that policies are compared on equal terms."""

    def places(asked, others: int = 0) -> list[int]:
        """The tokens that request 0 has after each iteration."""
        here = engine(speculating(), streams=Streams(5))
        for number in range(1, 1 + others):
            here.submit(job(number, 0.0, 10, 30), 0.0)
        here.submit(asked, 0.0)
        found = [0]
        while here.next_event_s() < math.inf:
            due_s = here.next_event_s()
            here.advance(due_s)
            found.append(dict(zip(*here.progress(due_s), strict=True)).get(0, found[-1]))
        return sorted(set(found))

    asked = job(0, 0.0, 10, 90)
    alone = places(asked)
    assert len(alone) > 20
    assert places(asked, others=7) == alone

    at = alone[10]
    moved = {at + tokens for tokens in places(asked.resumed(at))}
    # It begins with a token that is not proposed, so it may be out of step at first; then both go along together.
    assert set(alone[-8:]) <= moved


def test_the_decode_clock_hands_over():
    config = speculating()
    ample = limits(speculation=config)
    made = [make_engine(name, AffineTime(), ample, Streams(3)) for name in ("decode_clock", "stepwise")]
    for each in made:
        for number in range(9):
            each.submit(job(number, 0.01 * number, 30, 20 + number), 0.01 * number)
    assert drain(made[0]) == drain(made[1])
    assert make_engine("decode_clock", AffineTime(), limits()).__class__ is DecodeClockEngine
    with pytest.raises(ConfigError, match="counts one token per iteration"):
        DecodeClockEngine(AffineTime(), ample)


def test_who_cannot_speculate_says_so():
    from gsim.core import registry

    register("engine", "of_ones_own", config=EngineConfig)(type("Own", (), {}))
    try:
        with pytest.raises(ConfigError, match="only decode_clock and stepwise speculate, not engine 'of_ones_own'"):
            make_engine("of_ones_own", AffineTime(), limits(speculation=speculating()))
    finally:
        del registry._ENTRIES["engine"]["of_ones_own"]
    with pytest.raises(ConfigError, match="instance 'a' may yield several tokens .* leave out bound=true"):
        Server.of("a", AffineTime(), limits(speculation=speculating()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_speculative_tokens": -1}, r"num_speculative_tokens must be from 0 \(off\) to 1024, not -1"),
        ({"num_speculative_tokens": 0}, "acceptance says nothing while num_speculative_tokens is 0"),
        ({"acceptance": 1.2}, r"acceptance must be a number in \[0, 1\], not 1.2"),
        ({"acceptance": float("nan")}, r"acceptance must be a number in \[0, 1\], not nan"),
        ({"acceptance": None}, "give acceptance .* or curve .* for tasks without a chance of their own, not neither"),
        ({"acceptance": {"code": 0.5}}, "give acceptance .* not neither"),
        ({"curve": (0.8, 0.5, 0.3)}, "give acceptance .* not both"),
        ({"acceptance": "abc"}, r"acceptance must be a number in \[0, 1\], not 'abc'"),
        ({"acceptance": None, "curve": (0.8, 0.5)}, r"curve must have 3 shares or more .* not \(0.8, 0.5\)"),
        ({"acceptance": None, "curve": (0.5, 0.8, 0.3)}, "curve must never rise"),
        ({"acceptance": None, "curve": (0.5, 0.4, -0.3)}, r"curve must be a number in \[0, 1\], not -0.3"),
        ({"acceptance": {"code": 2.0, "other": 0.5}}, r"acceptance.code must be a number in \[0, 1\], not 2.0"),
        ({"draft_share": -0.1}, "draft_share must be a finite number, 0 or more, not -0.1"),
        ({"draft_s": math.inf}, "draft_s must be a finite number, 0 or more, not inf"),
    ],
)
def test_bad_input_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        speculating(**fields)
