"""The rules of single policies, each by its own formula."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policies import engine, finish_times, served

from gsim.core import ConfigError, build
from gsim.core.scheduling import EngineCard, EngineRequest, EngineView, Forecast
from gsim.scheduling.lengths import LengthHistory, at_quantile
from gsim.scheduling.past_future import peak_tokens

CARD = EngineCard(16, 100, 8, 512, 0.02, 1e-3, tuple(0.01 * n for n in range(1, 9)), 1e5)


def request(request_id=0, prompt=160, generated=0, tokens=100.0, deadline_s=100.0, **fields):
    """A request at 10 s that came at 0; running where it has generated something."""
    values = {"blocks": CARD.blocks_of(prompt + generated) if generated else 0, "host_tokens": 0, "preemptions": 0}
    values |= {"computed_tokens": prompt + generated - 1 if generated else 0, **fields}
    return EngineRequest(
        request_id=request_id,
        arrival_s=0.0,
        submitted_s=0.0,
        deadline_s=deadline_s,
        priority=0,
        task="",
        prompt_tokens=prompt,
        max_output_tokens=1000,
        generated_tokens=generated,
        forecast=Forecast(tokens, (tokens,) * 10),
        **values,
    )


def view(running=(), waiting=(), free=None):
    """An engine at 10 s."""
    free = CARD.kv_blocks - sum(r.blocks for r in running) if free is None else free
    return EngineView(10.0, CARD, list(running), list(waiting), free)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30)), min_size=1, max_size=8))
def test_the_peak_is_what_memory_holds_at_most(requests):
    held, rest = zip(*requests, strict=True)
    by_hand = max(
        sum(now + step for now, more in requests if more >= step)
        for step in range(1, 1 + max(more for _, more in requests))
    )
    assert peak_tokens(held, rest) == by_hand


def test_past_future_admits_what_will_fit_at_its_peak():
    policy = build("scheduler", "past_future", reserve=0.0)
    # 1,600 tokens: four that hold 176 now and 100 more each, and a fifth: 5 x 276 = 1,380.
    running = [request(i, generated=10, tokens=110.0) for i in range(4)]
    assert policy.admits(request(9), view(running))
    # With 160 more of each: 5 x 336 = 1,680.
    assert not policy.admits(request(9, tokens=160.0), view([r._replace(forecast=Forecast(170.0)) for r in running]))
    # Ends that lie apart: when the long one ends, the others have gone.
    short = [request(i, generated=10, tokens=20.0) for i in range(4)]
    assert policy.admits(request(9, tokens=700.0), view(short))


def test_past_future_learns_lengths_where_no_distribution_is_sent():
    policy = build("scheduler", "past_future", reserve=0.0)
    alone = [request(i, generated=1, tokens=1.0)._replace(forecast=None) for i in range(4)]
    # Without any knowledge: what clients allow, 1,000 tokens each.
    assert not policy.admits(request(9)._replace(forecast=None), view(alone))
    for _ in range(30):
        policy.finished(request(1, generated=20))
    assert policy.admits(request(9)._replace(forecast=None), view(alone))


def test_lengths_are_those_beyond_what_was_generated():
    history = LengthHistory(40)
    for tokens in range(60):
        history.add(tokens)
    unknown = request()._replace(forecast=None)
    assert history.lengths(unknown)[0] == 22.0, "the first twenty are forgotten"
    assert history.lengths(unknown._replace(generated_tokens=55))[0] == 56.0
    assert history.lengths(unknown._replace(generated_tokens=70)) == (1000.0,)
    assert at_quantile((1.0, 2.0, 3.0, 4.0), 0.5) == 3.0
    assert at_quantile((1.0,), 0.99) == 1.0


def test_jitserve_serves_most_goodput_per_second_first():
    policy = build("scheduler", "jitserve")
    short, long, late = request(1, tokens=50.0), request(2, tokens=500.0), request(3, tokens=50.0, deadline_s=0.3)
    assert policy.plan(view([], [long, late, short])).order == (1, 2, 3)
    assert policy.queue_key(short, CARD) < policy.queue_key(long, CARD) < policy.queue_key(late, CARD)


def test_jitserve_pushes_out_only_for_much_more():
    policy = build("scheduler", "jitserve")
    running = [request(i, prompt=400, generated=10, tokens=500.0) for i in range(3)]
    short, alike = request(8, prompt=400, tokens=30.0), request(9, prompt=400, tokens=450.0)
    assert policy.plan(view(running, [short])).preempt == (0,)
    assert policy.plan(view(running, [alike])).preempt == ()
    assert policy.plan(view(running, [short], free=100)).preempt == ()


def test_jitserve_takes_those_of_alike_prompts_where_not_all_fit():
    # Two fit. The long prompt has a little more density than the one in the middle.
    waiting = [request(1, prompt=160, tokens=84.0), request(2, 640, tokens=41.0), request(3, 960, tokens=6.0)]
    for group, chosen in ((0.9, {1, 2}), (1.0, {1, 3})):
        order = build("scheduler", "jitserve", group=group).plan(view([], waiting)).order
        assert set(order[:2]) == chosen


def test_slice_gives_everybody_the_rate_that_its_deadline_needs():
    one = engine("slice", policy_fields={"headroom": 1.0, "always": True})
    # A second per iteration. 20 tokens in 20 s, and 20 tokens in 100 s: every fifth iteration would do.
    jobs = [(20, {"slo_s": 24.0, "forecast": Forecast(20.0)}), (20, {"slo_s": 110.0, "forecast": Forecast(20.0)})]
    times = finish_times(served(one, *jobs))
    assert times[0] <= 24.0
    # Without pauses both would end at 20 s.
    assert 24.0 < times[1] < 60.0


def test_slice_lets_nobody_pause_where_a_batch_of_all_is_fast_enough():
    # 9 tokens per second each, 20 ms for a batch of two; then 60 per second.
    for deadline_s, pausing in ((20.0, 0), (11.5, 1)):
        running = [request(i, generated=1, tokens=91.0, deadline_s=deadline_s) for i in range(2)]
        policy = build("scheduler", "slice", headroom=1.0)
        policy.plan(view(running))
        assert len(policy.plan(view(running)).pause) >= pausing
        assert pausing or not policy.plan(view(running)).pause


def test_slice_takes_the_least_demanding_as_far_as_the_cycle_goes():
    policy = build("scheduler", "slice", headroom=1.0)
    # 1 s of cycle; a decode of one takes 10 ms, of two 20 ms: 40 tokens of one and 40 of another fit, 40 more do not.
    needs = [request(i, generated=1, tokens=41.0, deadline_s=11.0) for i in range(3)]
    assert sorted(policy._taken(needs, view(needs))) == [0, 1]
    late = request(5, generated=1, tokens=41.0, deadline_s=9.0)
    assert policy._taken([late], view([late])) == {}


def test_rotary_lets_the_one_most_ahead_leave_for_the_one_most_behind():
    policy = build("scheduler", "rotary")
    # Of 100 s: 90 % done after 10 s, and 20 % done after 10 s.
    ahead, pace = request(1, prompt=600, generated=90), request(2, prompt=600, generated=20)
    waiting = request(9, prompt=600)
    plan = policy.plan(view([ahead, pace], [waiting]))
    assert plan.rotate == (1,)
    assert plan.host_s_per_token == pytest.approx(1e5 / 25e9)
    assert policy.plan(view([ahead, pace], [waiting], free=50)).rotate == ()
    assert policy.plan(view([ahead._replace(arrival_s=-100.0, deadline_s=0.0)], [waiting], free=0)).rotate == ()
    tight = build("scheduler", "rotary", host_gb=0.01)
    assert tight.plan(view([ahead, pace], [waiting])).rotate == ()


def test_rotary_brings_everybody_back():
    one = engine("rotary", kv_blocks=20, max_model_len=300, prefix_caching=False, kv_bytes_per_token=1e5)
    jobs = [(60, {"prompt": 100, "slo_s": 400.0, "forecast": Forecast(60.0)}) for _ in range(6)]
    events = served(one, *jobs)
    assert len(finish_times(events)) == 6
    assert sum(event.kind == 2 for event in events) >= 4
    first = {event.request_id: event.time_s for event in events if event.kind == 0}
    alone = engine("fcfs", kv_blocks=20, max_model_len=300, prefix_caching=False)
    behind = {event.request_id: event.time_s for event in served(alone, *jobs) if event.kind == 0}
    # Who came last sees its first token sooner than if it had to wait for others to end.
    assert max(first.values()) < max(behind.values())


def test_power_cap_runs_as_slow_as_deadlines_and_memory_allow():
    policy = build("scheduler", "power_cap", margin=1.0)
    # 99 tokens at 10 ms each: 0.99 s, and 5 s for them.
    easy = request(1, generated=1, deadline_s=15.0)
    plan = policy.plan(view([easy]))
    assert plan.speed == pytest.approx(1 / (0.4 / 0.5 + 0.6))
    assert plan.power == pytest.approx(0.5**2.5)
    # 1.1 s for them: an iteration may take 1.11 times as long; at 0.8 it takes 1.1 times.
    tight = policy.plan(view([easy._replace(deadline_s=11.1)]))
    assert tight.speed == pytest.approx(1 / 1.1)
    assert policy.plan(view([easy], free=5)).speed == 1.0
    late = easy._replace(deadline_s=10.5)
    assert policy.plan(view([late])).power < 0.2, "it cannot be in time at any speed"


def test_power_cap_takes_a_tenth_off_where_requests_are_preempted():
    policy = build("scheduler", "power_cap")
    assert policy.plan(view([request(1, generated=1)])).max_running == 8
    crowd = [request(i, generated=1, preemptions=int(i == 0)) for i in range(6)]
    assert policy.plan(view(crowd)).max_running == 5
    assert policy.plan(view(crowd)).max_running == 6
    assert policy.plan(view(crowd, free=0)).max_running == 6


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("past_future", {"reserve": 1.0}),
        ("past_future", {"risk": -0.1}),
        ("past_future", {"window": 0}),
        ("jitserve", {"quantile": 1.0}),
        ("jitserve", {"group": 0.0}),
        ("jitserve", {"gain": 0.5}),
        ("slice", {"cycle_s": 0.0}),
        ("slice", {"headroom": 0.5}),
        ("slice", {"quantile": 1.0}),
        ("rotary", {"link_gb_per_s": 0.0}),
        ("rotary", {"host_gb": math.inf}),
        ("rotary", {"ahead_s": -1.0}),
        ("power_cap", {"frequencies": (0.5,)}),
        ("power_cap", {"compute_share": 1.5}),
        ("power_cap", {"every_iterations": 0}),
    ],
)
def test_fields_out_of_range_are_refused_by_name(name, fields):
    (field,) = fields
    with pytest.raises(ConfigError, match=field):
        build("scheduler", name, **fields)
    assert field in {f.name for f in dataclasses.fields(type(build("scheduler", name)))}
