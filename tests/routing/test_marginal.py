"""The router ``marginal`` and its parts, against what is known by hand or computed the long way."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_cases import busy_view, idle_view, request

from benchmarks.counting import calls
from gsim.core import HOLD, ActiveRequests, ClusterView, Completion, ConfigError, build
from gsim.lateness.chance import chances
from gsim.lateness.decoding import Decoding
from gsim.lateness.delay_costs import DELAYS_S, LONGEST_S, DelayCosts, Running
from gsim.lateness.shapes import NORMAL, Shapes
from gsim.routing.cache_trust import CacheTrust
from gsim.routing.latency_errors import LatencyErrors
from gsim.routing.length_shapes import BLUR
from gsim.routing.recalibration import Recalibration


def normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


# ------------------------------------------------------------------------------------------------------------- parts
@given(st.floats(-5.0, 5.0))
def test_the_logistic_curve_is_the_normal_one_to_a_ten_thousandth(z):
    assert chances(np.array([z]))[0] == pytest.approx(normal(z), abs=1.5e-4)


def running(n: int, instances: int, seed: int) -> tuple[np.ndarray, Running]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, instances, n), Running(
        elapsed_s=rng.uniform(0.1, 5.0, n),
        allowed_s=rng.uniform(3.0, 8.0, n),
        median_s=rng.uniform(1.0, 9.0, n),
        deviation=rng.uniform(0.1, 0.4, n),
    )


def made_late(some: Running, j: int, delay_s: float) -> float:
    """The long way, with the exact normal distribution."""
    elapsed, deviation = float(some.elapsed_s[j]), float(some.deviation[j])
    median = max(math.log(some.median_s[j]), math.log(elapsed) - 3.0 * deviation)

    def over(t: float) -> float:
        return normal((median - math.log(t)) / deviation)

    def in_time(t: float) -> float:
        return max(0.0, 1.0 - over(t) / over(elapsed)) if t > elapsed else 0.0

    allowed = float(some.allowed_s[j])
    return in_time(allowed) - in_time(allowed - delay_s)


@given(st.integers(0, 1000), st.sampled_from(DELAYS_S.tolist()))
def test_delay_costs_are_the_sum_of_what_each_request_loses(seed, delay_s):
    """At the delays of the table; between them it is a line (and rises, see below)."""
    instances = 4
    here, some = running(60, 3, seed)
    costs = DelayCosts()
    costs.reset(instances, here, some.in_time())
    found = costs.of(np.full(instances, delay_s))
    for i in range(instances):
        there = np.flatnonzero(here == i).tolist()
        lost = sum(made_late(some, j, delay_s) for j in there)
        assert found[i] == pytest.approx(lost, abs=0.005 * len(there) + 1e-9)
    assert found[3] == 0.0, "nobody is there"


@given(st.integers(0, 1000))
def test_a_longer_delay_makes_no_fewer_late(seed):
    here, some = running(40, 3, seed)
    costs = DelayCosts()
    costs.reset(3, here, some.in_time())
    found = [costs.of(np.full(3, delay_s)) for delay_s in np.linspace(0.0, 1.2 * LONGEST_S, 40)]
    assert (found[0] == 0.0).all()
    assert all((later >= earlier - 1e-12).all() for earlier, later in pairwise(found))


@pytest.mark.filterwarnings("error")
def test_a_delay_without_end_makes_late_whom_the_longest_one_makes_late():
    costs = DelayCosts()
    costs.clear(1)
    costs.add(0, left_s=5.0, median_s=2.0, deviation=0.3)
    longest = costs.of(np.array([LONGEST_S]))
    for delay_s in (1e30, 1e308, np.inf):
        assert costs.of(np.array([delay_s])) == pytest.approx(longest), delay_s


def test_who_is_late_already_loses_nothing():
    late = Running(np.full(3, 7.0), np.full(3, 6.0), np.full(3, 9.0), np.full(3, 0.3))
    costs = DelayCosts()
    costs.reset(1, np.zeros(3, np.int64), late.in_time())
    assert costs.of(np.array([5.0])).tolist() == [0.0]


def test_who_comes_and_leaves_is_counted():
    costs = DelayCosts()
    costs.clear(2)
    for _ in range(4):
        costs.add(1, left_s=6.0, median_s=5.0, deviation=0.2)
    fresh = Running(np.full(4, 1e-9), np.full(4, 6.0), np.full(4, 5.0), np.full(4, 0.2))
    same = DelayCosts()
    same.reset(2, np.ones(4, np.int64), fresh.in_time())
    assert costs.table == pytest.approx(same.table, abs=1e-3)
    before = costs.table[1].copy()
    costs.take_one(1)
    assert costs.table[1] == pytest.approx(0.75 * before)
    for _ in range(5):
        costs.take_one(1)
    assert costs.table.tolist() == [[0.0] * len(DELAYS_S)] * 2
    assert costs.count.tolist() == [0.0, 0.0]


def test_lengths_are_recalibrated_by_class():
    """Of one class the predictor says twice the truth; of another it says anything, and the class's mean is better."""
    rng = np.random.default_rng(3)
    lengths = Recalibration()
    assert lengths.length("doubled", 300.0)[0] == 300.0, "nothing is known yet"
    for _ in range(600):
        truth = float(rng.lognormal(math.log(200.0), 0.5))
        lengths.learn("doubled", 2.0 * truth, round(truth))
        lengths.learn("blind", float(rng.lognormal(math.log(200.0), 0.5)), round(truth))
    for predicted in (200.0, 400.0, 900.0):
        tokens, variance, _ = lengths.length("doubled", predicted)
        assert tokens == pytest.approx(predicted / 2.0, rel=0.1)
        assert variance < 0.02
    tokens, variance, _ = lengths.length("blind", 600.0)
    assert tokens == pytest.approx(200.0, rel=0.25)
    assert variance == pytest.approx(0.25, rel=0.3)


def test_one_prediction_for_all_leaves_the_distribution_that_there_is():
    """Lengths even between 100 and 500, all predicted to be 300: neither normal nor log-normal, and with an end."""
    rng = np.random.default_rng(4)
    lengths = Recalibration()
    for _ in range(3000):
        lengths.learn("even", 300.0, int(rng.integers(100, 501)))
    expected = lengths.length("even", 300.0)
    deviation = math.sqrt(expected.variance + BLUR**2)
    below = {n: (math.log(n) - math.log(expected.tokens)) / deviation for n in (50, 200, 300, 400, 560)}
    found = {n: float(lengths.shapes.below(expected.row, np.array([z]))[0]) for n, z in below.items()}
    assert found == pytest.approx({50: 0.0, 200: 0.25, 300: 0.5, 400: 0.75, 560: 1.0}, abs=0.1)
    for generated in (150, 300, 400):
        z = np.array([(math.log(generated) - math.log(expected.tokens)) / deviation])
        total = expected.tokens * lengths.shapes.mean_above(np.array([expected.row]), z, np.array([deviation]))[0]
        assert total == pytest.approx((generated + 500) / 2, rel=0.07), "half way to the end"


def test_long_predictions_have_a_shape_of_their_own():
    """Lengths end at 500 and predictions do not: who is predicted beyond it ends there all the same."""
    rng = np.random.default_rng(6)
    lengths = Recalibration()
    for _ in range(4000):
        length = int(rng.integers(100, 501))
        lengths.learn("cut", length * float(np.exp(0.3 * rng.standard_normal())), length)
    long, short = lengths.length("cut", 650.0), lengths.length("cut", 150.0)
    assert long.row != short.row
    assert long.variance < short.variance
    over = (math.log(560) - math.log(long.tokens)) / math.sqrt(long.variance + BLUR**2)
    assert lengths.shapes.below(long.row, np.array([over]))[0] > 0.93


def test_few_requests_of_a_class_are_taken_for_normal():
    lengths = Recalibration()
    for _ in range(40):
        lengths.learn("new", 300.0, 200)
    assert lengths.length("new", 300.0).row == NORMAL


@given(st.floats(-3.9, 3.9), st.floats(0.1, 0.6))
def test_shapes_that_are_set_to_the_normal_one_are_like_it(z, deviation):
    shapes = Shapes()
    row = shapes.add(1)
    shapes.set(row, shapes.shares[NORMAL].copy(), deviation)
    assert shapes.below(row, np.array([z]))[0] == pytest.approx(normal(z), abs=1e-3)
    if z < 2.5:
        both = shapes.mean_above(np.array([NORMAL, row]), np.array([z, z]), np.full(2, deviation))
        assert both[1] == pytest.approx(both[0], rel=0.03)


def test_chances_in_flight_are_those_of_the_tokens_left():
    """The long way: of many lengths of the shape, those longer than what is there, and how many end in time."""
    rng = np.random.default_rng(8)
    shapes = Shapes()
    lengths = np.exp(math.log(300.0) + 0.3 * rng.standard_normal(200_000))
    generated = np.array([0.0, 150.0, 320.0])
    some = Decoding.of(
        shapes,
        generated=generated,
        log_tokens=np.full(3, math.log(300.0)),
        deviation=np.full(3, 0.3),
        rows=np.full(3, NORMAL),
        wait_s=np.array([0.5, 0.0, 0.0]),
        pace_s=np.full(3, 0.01),
        left_s=np.array([4.0, 1.5, 0.8]),
    )
    in_time, to_decode = some.in_time(shapes), some.to_decode(shapes)
    for j, so_far in enumerate(generated.tolist()):
        left = lengths[lengths > so_far] - so_far
        assert to_decode[j] == pytest.approx(left.mean(), rel=0.03)
        for k, delay_s in enumerate(DELAYS_S.tolist()):
            allowed = float(some.left_s[j] - some.wait_s[j]) - delay_s
            assert in_time[j, k] == pytest.approx((left * 0.01 <= max(allowed, 0.0)).mean(), abs=0.01)


def test_who_has_outlived_all_of_its_kind_is_not_about_to_end():
    shapes = Shapes()
    fields = {"log_tokens": np.log([100.0]), "deviation": np.array([0.1]), "rows": np.array([NORMAL])}
    fields |= {"wait_s": np.zeros(1), "pace_s": np.full(1, 0.01), "left_s": np.full(1, 1.0)}
    some = Decoding.of(shapes, generated=np.array([1000.0]), **fields)
    assert some.to_decode(shapes)[0] > 30.0
    assert some.in_time(shapes)[0, 0] > 0.5


def test_latency_errors_are_learned_per_instance():
    rng = np.random.default_rng(5)
    errors = LatencyErrors()
    errors.grow(2)
    for _ in range(400):
        errors.learn(1, 0.3 + 0.2 * float(rng.standard_normal()))
    assert errors.bias == pytest.approx([0.0, 0.3], abs=0.1)
    assert errors.variance == pytest.approx([0.04, 0.04], abs=0.02)
    for _ in range(400):
        errors.learn(1, 0.3)
    assert errors.variance[1] == errors.least_variance


# ------------------------------------------------------------------------------------------------------------ choice
def in_flight(view: ClusterView, instance: int, n: int, *, allowed_s: float, to_decode: int) -> ActiveRequests:
    """``n`` requests on one instance, half way through 400 tokens, with so long to go to their deadlines."""
    view.in_flight[instance] = n
    whole = np.full(n, instance, dtype=np.int64)
    now = view.now_s
    return replace(
        ActiveRequests.none(),
        request_id=np.arange(1000, 1000 + n),
        instance=whole,
        prompt_tokens=np.full(n, 100),
        generated_tokens=np.full(n, 200),
        predicted_tokens=np.full(n, 200.0 + to_decode),
        arrival_s=np.full(n, now - 2.0),
        dispatched_s=np.full(n, now - 2.0),
        deadline_s=np.full(n, now + allowed_s),
        moves=np.zeros(n, np.int64),
        moving=np.zeros(n, np.bool_),
        previous=whole,
        moved_s=np.full(n, -np.inf),
        observed_s=now,
    )


def chosen(view: ClusterView, slo_s: float = 20.0, **fields):
    return build("router", "marginal", **fields).route(request(arrival_s=view.now_s, slo_s=slo_s), view)


def test_alone_it_goes_where_it_is_fastest():
    assert chosen(idle_view(4)) == 3


def test_it_spares_those_who_have_no_time_to_lose():
    """On the fastest instance twenty requests are about to be just in time; elsewhere it is in time too."""
    view = idle_view(4)
    tight = in_flight(view, 3, 20, allowed_s=3.2, to_decode=200)
    view.observed = lambda: tight
    assert chosen(view, prefill_price=0.0) == 2
    view = idle_view(4)
    loose = in_flight(view, 3, 20, allowed_s=60.0, to_decode=200)
    view.observed = lambda: loose
    assert chosen(view, prefill_price=0.0) == 3


def test_it_stays_where_its_prompt_is_cached():
    view = idle_view(4, prefill_s_per_token=[0.001] * 4, in_flight=[10, 10, 10, 10])
    view.prefix_tokens = lambda one: np.array([0, 0, one.prompt_tokens - 50, 0])
    router = build("router", "marginal")
    assert router.route(request(prompt_tokens=3000, arrival_s=0.0, slo_s=20.0), view) == 2


def test_the_lost_wait_while_they_would_harm_others_and_no_longer_than_they_must():
    view = idle_view(2, in_flight=[20, 20])
    both = [in_flight(view, i, 20, allowed_s=2.5, to_decode=40) for i in range(2)]
    names = ("request_id", "instance", "prompt_tokens", "generated_tokens", "predicted_tokens", "arrival_s")
    names += ("dispatched_s", "deadline_s", "moves", "moving", "previous", "moved_s")
    joined = replace(both[0], **{name: np.concatenate([getattr(one, name) for one in both]) for name in names})
    view.observed = lambda: joined
    assert chosen(view, slo_s=0.5) is HOLD
    assert chosen(view, slo_s=0.5, hold_s=0.0) in (0, 1)
    view.now_s = 70.0
    late = request(arrival_s=0.0, slo_s=0.5)
    assert build("router", "marginal", hold_s=60.0).route(late, view) in (0, 1)


def test_a_higher_price_spares_those_whom_a_low_one_makes_late():
    def chosen_at(price: float):
        view = idle_view(4)
        tight = in_flight(view, 3, 8, allowed_s=3.5, to_decode=200)
        view.observed = lambda: tight
        return chosen(view, price=price, prefill_price=0.0)

    assert chosen_at(0.0) == 3
    assert chosen_at(8.0) == 2


def test_what_it_was_not_told_of_is_forgotten():
    """Requests that fail are never told of; what is remembered of them is bounded by what is in flight."""
    router, view = build("router", "marginal"), idle_view(2)
    for k in range(3000):
        router.placed(request(k), router.route(request(k, slo_s=1e3), view))
        if k % 500 == 499:
            seen = in_flight(view, 0, 10, allowed_s=5.0, to_decode=100)
            view.observed = lambda seen=seen: seen
    assert len(router._sent) < 1600


def test_a_completion_of_a_request_that_others_moved_teaches_nothing():
    router, view = build("router", "marginal"), idle_view(2)
    one = request(5, slo_s=1e3)
    first = router.route(one, view)
    router.placed(one, first)
    router.placed(one, 1 - first)
    router.observe_completion(Completion(one, 1 - first, 0.0, 1.0, 50.0, 3000))
    assert router._errors.bias.tolist() == [0.0, 0.0]
    assert router._lengths.length("default", 100.0)[0] == 100.0


@pytest.mark.parametrize("field", ["price", "prefill_price", "haste", "hold_s"])
def test_fields_are_checked(field):
    with pytest.raises(ConfigError, match=rf"router\.{field} must be 0 or more, not -1"):
        build("router", "marginal", **{field: -1.0})


def test_a_decision_costs_as_many_calls_in_a_large_pool_with_much_in_flight():
    def cost(instances: int, n: int) -> int:
        view = busy_view(instances)
        seen = in_flight(view, 0, n, allowed_s=5.0, to_decode=100)
        view.observed = lambda: seen
        router = build("router", "marginal")
        router.route(request(0), view)
        return calls(lambda: [router.route(request(k), view) for k in range(20)])

    assert cost(512, 5000) <= cost(4, 5) + 2


# ------------------------------------------------------------------------------------------------------- cache trust
def test_the_index_is_believed_as_far_as_engines_confirm_it():
    trust = CacheTrust()
    trust.grow(3)
    for _ in range(400):
        trust.learn(0, 1000, 0)
        trust.learn(1, 1000, 1200)
        trust.learn(1, 1000, 500)
        trust.learn(2, 1000, None)
    assert trust.share == pytest.approx([0.0, 0.75, 1.0], abs=0.01)


def test_a_cache_that_is_not_there_keeps_nobody():
    """Where the index says that a long prompt is cached, but no engine caches, the faster instance is chosen."""
    one = request(arrival_s=0.0, prompt_tokens=20_000, slo_s=6.0)
    view = idle_view(2, prefix_tokens=lambda one: np.array([one.prompt_tokens, 0]))
    router = build("router", "marginal")
    assert router.route(one, view) == 0
    for k in range(300):
        other = request(k, arrival_s=0.0, prompt_tokens=4000)
        router.route(other, view)
        router.placed(other, 0)
        router.observe_completion(Completion(other, 0, 0.0, 0.1, 12.0, 200, cached_tokens=0))
    assert router._trust.share[0] < 0.01
    assert router.route(one, view) == 1
