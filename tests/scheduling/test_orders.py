"""Policies that order an engine's queue: what goes first, what a bound on waiting is worth, what they may see."""

from __future__ import annotations

import inspect
import math

import pytest
from policies import engine, finish_times, served

from gsim.contract.schedulers import requests
from gsim.core import Job, entries
from gsim.core.scheduling import EngineRequest, Forecast, Plan
from gsim.engine.decode_clock import DecodeClockEngine
from gsim.engine.ordering import card_of, decides_each_iteration, policy_of, seen
from gsim.engine.sequence import Sequence

ONE_AT_A_TIME = {"max_num_seqs": 1, "prefix_caching": False}


def order(policy, *jobs, **fields):
    """The order in which requests that come together are served one at a time."""
    times = finish_times(served(engine(policy, **{**ONE_AT_A_TIME, **fields}), *jobs))
    return sorted(times, key=times.get)


def test_the_earliest_deadline_goes_first():
    jobs = [(3, {"slo_s": 50.0}), (3, {"slo_s": 9.0}), (3, {"slo_s": math.inf}), (3, {"slo_s": 20.0})]
    assert order("edf", *jobs) == [1, 3, 0, 2]
    assert order("fcfs", *jobs) == [0, 1, 2, 3]


def test_the_least_laxity_counts_the_work_that_is_left():
    # Ten seconds later, but with 40 tokens of a second each instead of 5.
    jobs = [(5, {"slo_s": 60.0, "forecast": Forecast(5.0)}), (40, {"slo_s": 70.0, "forecast": Forecast(40.0)})]
    assert order("edf", *jobs) == [0, 1]
    assert order("least_laxity", *jobs) == [1, 0]


def test_who_came_too_late_may_go_last():
    jobs = [(9, {"slo_s": 3.0, "forecast": Forecast(9.0)}), (2, {"slo_s": 30.0, "forecast": Forecast(2.0)})]
    assert order("least_laxity", *jobs) == [0, 1]
    late = {"policy_fields": {"drop_late": True}}
    assert order("least_laxity", *jobs, **late) == [1, 0]


def test_the_shortest_prediction_goes_first_and_waiting_bounds_what_it_overtakes():
    long = (30, {"forecast": Forecast(30.0)})
    assert order("shortest_predicted", long, (4, {"forecast": Forecast(4.0)})) == [1, 0]
    # Short ones keep coming; of those, only who comes within ageing x (30 - 4) seconds of the long one goes first.
    for ageing, before in ((0.5, 13), (1.0, 26)):
        one = engine("shortest_predicted", policy_fields={"ageing": ageing}, **ONE_AT_A_TIME)
        times = finish_times(served_over_time(one, long, every_s=4.0))
        overtook = [number for number, time_s in times.items() if number and time_s < times[0]]
        assert len(overtook) == pytest.approx(before / 4.0, abs=1.5)
    starved = finish_times(
        served_over_time(engine("shortest_predicted", policy_fields={"ageing": math.inf}, **ONE_AT_A_TIME), long, 4.0)
    )
    assert max(starved, key=starved.get) == 0


def served_over_time(one, first, every_s):
    """A request at 0 while another is served, and 40 short ones, one every so many seconds."""
    from engine_cases import job

    events = []
    one.submit(job(99, 0.0, output=2, max_output_tokens=9), 0.0)
    for number in range(41):
        now_s = 1.0 + max(0, number - 1) * every_s
        while one.next_event_s() <= now_s:
            events += one.advance(one.next_event_s())
        output, fields = first if number == 0 else (4, {"forecast": Forecast(4.0)})
        one.submit(job(number, now_s, output=output, max_output_tokens=100, **fields), now_s)
    while one.next_event_s() < math.inf:
        events += one.advance(one.next_event_s())
    return [event for event in events if event.request_id != 99]


def test_where_blocks_run_out_the_last_of_the_order_is_preempted():
    jobs = [(60, {"slo_s": 500.0, "prompt": 32}), (60, {"slo_s": 100.0, "prompt": 32})]
    for policy, victim in (("edf", 0), ("fcfs", 1)):
        events = served(engine(policy, kv_blocks=8, prefix_caching=False), *jobs)
        assert {event.request_id for event in events if event.kind == 2} == {victim}


def test_policies_see_no_type_that_holds_the_truth():
    """The truth is on Job, and on the engine's own sequences; a policy is handed neither."""
    assert "output_tokens" in Job._fields
    assert not {"output_tokens", "job", "stop"} & set(EngineRequest._fields)
    for name, entry in entries("scheduler").items():
        for method in ("queue_key", "admits", "plan", "finished"):
            asked = getattr(entry.cls, method, None)
            if asked is not None:
                names = set(inspect.get_annotations(asked).values())
                assert names <= {"EngineRequest", "EngineCard", "EngineView", "float", "bool", "Plan", "None"}, name


def test_what_a_policy_sees_is_the_same_whatever_the_truth():
    from engine_cases import job

    forecast = Forecast(7.0)
    rows = [
        seen(Sequence(job(1, output=output, max_output_tokens=100, forecast=forecast), 3.0, 0, output, 0, None))
        for output in (2, 90)
    ]
    assert rows[0] == rows[1]
    assert rows[0].predicted_tokens == 7.0


@pytest.mark.parametrize("name", entries("scheduler"))
def test_every_policy_says_what_it_is_and_what_of_starvation(name):
    told = " ".join((entries("scheduler")[name].cls.__doc__ or "").split())
    assert "Starvation:" in told
    assert "Source:" in told


@pytest.mark.parametrize("name", entries("scheduler"))
def test_orders_run_on_the_decode_clock_and_the_rest_on_the_reference(name):
    made = engine(name)
    from engine_cases import limits

    assert isinstance(made, DecodeClockEngine) != decides_each_iteration(policy_of(limits(policy=name)))


def test_a_card_is_timed_within_its_limits():
    from engine_cases import AffineTime, limits

    card = card_of(AffineTime(), limits(kv_blocks=4, max_num_seqs=8, max_num_batched_tokens=8, max_model_len=30))
    assert len(card.decode_s) == 8
    assert card.decode_s[7] > card.decode_s[0] > 0.0
    assert card.prefill_s_per_token > 0.0
    assert card.blocks_of(17) == 2


def test_what_remains_follows_from_the_forecast():
    fresh, without = requests()[6], requests()[0]
    assert fresh.lengths() == fresh.forecast.quantiles
    assert fresh._replace(generated_tokens=200).lengths() == (210.0, 250.0, 290.0, 330.0, 370.0, 410.0)
    assert fresh._replace(generated_tokens=500).lengths() == (625.0,)
    assert without.lengths() == (4096.0,)
    assert Plan() == ((), (), (), (), None, 1.0, 1.0, 0.0)
