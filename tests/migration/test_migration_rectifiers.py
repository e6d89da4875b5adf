"""Rectifiers: who moves, and who must not."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsim.core import ConfigError, build, entries
from gsim.migration.llumnix import Llumnix, freeness_blocks
from gsim.migration.risk_monitor import RiskMonitor
from gsim.migration.slo_rebalance import SloRebalance
from gsim.migration.star import Star, _Outlook


def test_the_group_lists_the_rectifiers():
    assert {"none", "risk_monitor", "llumnix", "slo_rebalance", "star"} <= set(entries("rectifier"))


def test_none_never_reviews(pool, requests):
    nobody = build("rectifier", "none")
    assert nobody.interval_s == np.inf
    assert list(nobody.review(requests(5, deadline_s=0.0), pool(2))) == []


# --------------------------------------------------------------------------------------------------- risk monitor
def at_risk(requests, n=1, **columns):
    """200 tokens to go at 0.05 s each take 10 s; the deadline is in 6 s."""
    return requests(n, deadline_s=columns.pop("deadline_s", 6.0), **columns)


def test_a_request_that_will_make_it_stays(pool, requests):
    view = pool(3, tpot_s=[0.02, 0.01, 0.01])
    assert list(RiskMonitor().review(requests(4, deadline_s=10.0), view)) == []


def test_a_request_at_risk_goes_to_the_instance_that_is_just_good_enough(pool, requests):
    view = pool(4, tpot_s=[0.05, 0.005, 0.02, 0.028])
    (move,) = RiskMonitor().review(at_risk(requests), view)
    # 0.028 would finish at 5.7 s, inside the deadline but not with the margin of 0.5 s; 0.02 is the slowest that does.
    assert (move.request_id, move.target) == (0, 2)


def test_fastest_takes_the_fastest(pool, requests):
    view = pool(4, tpot_s=[0.05, 0.005, 0.02, 0.025])
    (move,) = RiskMonitor(choice="fastest").review(at_risk(requests), view)
    assert move.target == 1


def test_weakest_takes_the_slowest_card(pool, requests):
    view = pool(3, tpot_s=[0.05, 0.02, 0.024])
    view.tpot_s[:] = [0.05, 0.024, 0.02]
    assert RiskMonitor(choice="weakest").review(at_risk(requests), view)[0].target == 2
    assert RiskMonitor(choice="largest_t").review(at_risk(requests), view)[0].target == 1


def test_nobody_moves_where_no_target_makes_it(pool, requests):
    view = pool(3, tpot_s=[0.05, 0.04, 0.04])
    assert list(RiskMonitor().review(at_risk(requests), view)) == []


def test_the_cost_of_the_move_counts(pool, requests):
    view = pool(2, tpot_s=[0.05, 0.02])
    view.move_cost_s = lambda tokens, source, targets: np.full(len(targets), 1.6)
    assert list(RiskMonitor().review(at_risk(requests), view)) == []
    view.move_cost_s = lambda tokens, source, targets: np.full(len(targets), 1.4)
    assert len(RiskMonitor().review(at_risk(requests), view)) == 1


def test_the_cost_is_asked_for_the_whole_context(pool, requests):
    view = pool(2, tpot_s=[0.05, 0.02])
    asked = []

    def cost(tokens, source, targets):
        asked.append((tokens, source, targets.tolist()))
        return np.zeros(len(targets))

    view.move_cost_s = cost
    RiskMonitor().review(at_risk(requests, prompt_tokens=300, generated_tokens=10), view)
    assert asked == [(310, 0, [1])]


def test_a_request_does_not_go_back_at_once(pool, requests):
    view = pool(2, tpot_s=[0.05, 0.02])
    view.now_s = 10.0
    moved = at_risk(requests, deadline_s=16.0, previous=1, moved_s=9.0, moves=1)
    assert list(RiskMonitor().review(moved, view)) == []
    assert len(RiskMonitor(no_return_s=0.5).review(moved, view)) == 1


@pytest.mark.parametrize("columns", [{"moves": 2}, {"moving": True}])
def test_moved_enough_or_moving_stays(pool, requests, columns):
    view = pool(2, tpot_s=[0.05, 0.02])
    assert list(RiskMonitor().review(at_risk(requests, **columns), view)) == []


def test_down_and_full_instances_are_no_targets(pool, requests):
    view = pool(3, tpot_s=[0.05, 0.02, 0.02])
    view.available[1] = False
    view.kv_usage[2] = 0.999
    assert list(RiskMonitor().review(at_risk(requests), view)) == []


def test_an_instance_in_trouble_takes_nobody_in(pool, requests):
    view = pool(2, tpot_s=[0.05, 0.02])
    # Two of the five requests on instance 1 will be late themselves.
    on = [0, 1, 1, 1, 1, 1]
    active = at_risk(requests, 6, instance=on, deadline_s=[6.0, 3.0, 3.0, 9.0, 9.0, 9.0])
    assert list(RiskMonitor().review(active, view)) == []
    assert [move.request_id for move in RiskMonitor(max_target_risk=0.4).review(active, view)] == [0]


def test_one_move_at_a_time_per_instance_by_earliest_deadline(pool, requests):
    view = pool(3, tpot_s=[0.05, 0.02, 0.02])
    active = at_risk(requests, 4, deadline_s=[6.0, 5.5, 5.8, 6.0])
    monitor = RiskMonitor(max_inflight=1)
    moves = monitor.review(active, view)
    assert [move.request_id for move in moves] == [1]
    # While it moves, its source and its target are taken.
    active.moving[1] = True
    assert list(monitor.review(active, view)) == []
    active.moving[1] = False
    active.instance[1] = moves[0].target
    assert [move.request_id for move in monitor.review(active, view)] == [2]


def test_a_review_weighs_so_many_requests_by_earliest_deadline(pool, requests):
    view = pool(2, tpot_s=[0.05, 0.02])
    active = at_risk(requests, 4, deadline_s=[6.0, 5.5, 5.8, 5.9])
    few, all_ = (RiskMonitor(max_candidates=n, max_target_risk=1.0).review(active, view) for n in (2, 4))
    assert [move.request_id for move in few] == [1, 2]
    assert [move.request_id for move in all_] == [1, 2, 3, 0]


def test_a_waiting_request_is_judged_by_its_queue_and_prefill(pool, requests):
    view = pool(2, tpot_s=[0.02, 0.02])
    view.queue_s[0] = 8.0
    waiting = requests(1, generated_tokens=0, predicted_tokens=200.0, deadline_s=6.0)
    assert len(RiskMonitor().review(waiting, view)) == 1
    view.queue_s[0] = 1.0
    assert list(RiskMonitor().review(waiting, view)) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"interval_s": 0.0},
        {"min_gain_s": -1.0},
        {"max_moves": 0},
        {"max_inflight": 0},
        {"max_candidates": 0},
        {"max_target_risk": 2.0},
        {"choice": "luckiest"},
    ],
)
def test_bad_fields_of_the_monitor_are_named(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        RiskMonitor(**fields)


@pytest.mark.parametrize("fields", [{"interval_s": 0.0}, {"max_moves": 0}, {"max_inflight": 0}, {"no_return_s": -1.0}])
@pytest.mark.parametrize("name", ["risk_monitor", "llumnix", "slo_rebalance"])
def test_limits_that_no_review_can_keep_are_named(name, fields):
    with pytest.raises(ConfigError, match=f"rectifier.{next(iter(fields))} must be"):
        build("rectifier", name, **fields)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 200), instances=st.integers(1, 20))
@pytest.mark.parametrize("name", ["risk_monitor", "llumnix", "slo_rebalance"])
def test_every_rectifier_keeps_the_rules(pool, requests, name, seed, n, instances):
    rng = np.random.default_rng(seed)
    view = pool(instances, tpot_s=rng.uniform(0.005, 0.1, instances), kv_tokens=20_000)
    view.now_s = 50.0
    view.queue_s[:] = rng.exponential(1.0, instances)
    view.kv_usage[:] = rng.uniform(0, 1, instances)
    view.running[:] = rng.integers(0, 400, instances)
    view.waiting[:] = rng.integers(0, 50, instances)
    view.in_flight[:] = view.running + view.waiting
    view.available[:] = rng.random(instances) < 0.8
    active = requests(
        n,
        instance=rng.integers(0, instances, n),
        generated_tokens=rng.integers(0, 200, n),
        predicted_tokens=rng.uniform(201, 800, n),
        deadline_s=rng.uniform(40.0, 80.0, n),
        moves=rng.integers(0, 4, n),
        moving=rng.random(n) < 0.1,
        previous=rng.integers(-1, instances, n),
        moved_s=rng.uniform(0, 50, n),
    )
    rectifier = build("rectifier", name)
    moves = rectifier.review(active, view)
    assert len({move.request_id for move in moves}) == len(moves)
    ends = np.zeros(instances, dtype=int)
    for move in moves:
        source = active.instance[move.request_id]
        assert move.target != source
        assert view.available[move.target]
        assert not active.moving[move.request_id]
        assert active.moves[move.request_id] < rectifier.max_moves
        back = active.previous[move.request_id] == move.target
        assert not (back and view.now_s - active.moved_s[move.request_id] < rectifier.no_return_s)
        ends[[source, move.target]] += 1
    assert ends.max() <= rectifier.max_inflight
    assert list(build("rectifier", name).review(active, view)) == list(moves)


def test_a_review_of_80000_requests_asks_few_of_them_one_by_one(pool, requests):
    """A review takes some 14 times as long as a loop over all of them that multiplies and compares, most of it for
    those that do move; to weigh each of them by itself would take a hundred times as long."""
    rng = np.random.default_rng(1)
    view = pool(512, tpot_s=rng.uniform(0.01, 0.06, 512))
    view.queue_s[:] = rng.exponential(0.5, 512)
    active = requests(
        80_000,
        instance=rng.integers(0, 512, 80_000),
        generated_tokens=rng.integers(1, 300, 80_000),
        predicted_tokens=rng.uniform(301, 600, 80_000),
        deadline_s=rng.uniform(0.0, 20.0, 80_000),
    )
    monitor = RiskMonitor()
    spans, passes = [], []
    for _ in range(5):
        began = time.process_time()
        moves = monitor.review(active, view)
        spans.append(time.process_time() - began)
        began = time.process_time()
        sum(float(left) * 0.5 > 3.0 for left in active.deadline_s)
        passes.append(time.process_time() - began)
    assert len(moves) > 50
    assert min(spans) < 40 * min(passes)


# -------------------------------------------------------------------------------------------------------- llumnix
def test_freeness_is_free_blocks_per_request(pool):
    view = pool(3, kv_tokens=16_000)
    view.running[:] = [10, 5, 0]
    view.waiting[:] = [0, 5, 0]
    view.in_flight[:] = [10, 10, 0]
    view.in_flight_prefill_tokens[:] = [0, 1600, 0]
    view.kv_usage[:] = [0.5, 0.5, 0.0]
    assert freeness_blocks(view).tolist() == [50.0, 40.0, np.inf]


def full_and_free(pool):
    view = pool(3, kv_tokens=16_000)
    view.running[:] = [100, 100, 5]
    view.in_flight[:] = view.running
    view.kv_usage[:] = [0.95, 0.8, 0.1]
    return view


def test_llumnix_moves_from_the_fullest_to_the_freest(pool, requests):
    active = requests(3, instance=[0, 0, 1], prompt_tokens=[500, 100, 50])
    (move,) = Llumnix().review(active, full_and_free(pool))
    assert (move.request_id, move.target) == (1, 2)
    # Half a block a request is left on the fullest.
    assert list(Llumnix(out_threshold=0.4).review(active, full_and_free(pool))) == []


@pytest.mark.parametrize(("pick", "chosen"), [("shortest", 1), ("longest", 0), ("last_come", 2)])
def test_llumnix_picks(pool, requests, pick, chosen):
    active = requests(3, prompt_tokens=[500, 100, 200], dispatched_s=[0.0, 1.0, 2.0])
    (move,) = Llumnix(pick=pick).review(active, full_and_free(pool))
    assert move.request_id == chosen


def test_llumnix_leaves_a_balanced_pool_alone(pool, requests):
    view = pool(3, kv_tokens=160_000)
    view.running[:] = 10
    assert list(Llumnix().review(requests(9, instance=[0, 1, 2] * 3), view)) == []


# -------------------------------------------------------------------------------------------------- slo_rebalance
def test_mitigation_relieves_the_slowest_into_the_most_loaded_that_is_below(pool, requests):
    view = pool(4, tpot_s=[0.099, 0.08, 0.07, 0.09])
    active = requests(5, instance=[0, 0, 1, 2, 3], prompt_tokens=[300, 100, 50, 50, 50])
    (move,) = SloRebalance(tpot_slo_s=0.1, consolidate_below=0.0).review(active, view)
    assert (move.request_id, move.target, move.reason) == (1, 1, "mitigate")
    assert list(SloRebalance(tpot_slo_s=0.1, consolidate_below=0.0, source_above=1.0).review(active, view)) == []


def test_consolidation_empties_the_least_loaded_into_a_busier_one(pool, requests):
    view = pool(3, tpot_s=[0.03, 0.05, 0.01])
    active = requests(3, instance=[0, 0, 1], prompt_tokens=[300, 100, 50])
    (move,) = SloRebalance(tpot_slo_s=0.1).review(active, view)
    # Instance 2 is idle: neither emptied nor filled.
    assert (move.request_id, move.target, move.reason) == (1, 1, "consolidate")


def test_the_objective_follows_the_requests_where_none_is_given(pool, requests):
    view = pool(2, tpot_s=[0.05, 0.01])
    # 210 tokens in 10 s: 0.0476 s a token, which instance 0 misses.
    (move,) = SloRebalance(consolidate_below=0.0).review(requests(2), view)
    assert (move.request_id, move.target) == (0, 1)


def test_thresholds_must_be_in_order():
    with pytest.raises(ConfigError, match="target_below"):
        SloRebalance(target_below=0.99)


# ------------------------------------------------------------------------------------------------------------- STAR
def test_star_moves_what_will_be_long_from_where_it_gathers(pool, requests):
    """All have about the same context now; on one of them it will go on growing, and the third has least of it."""
    view = pool(3, tpot_s=0.02, kv_tokens=10_000)
    on = [0, 0, 1, 1, 2]
    to_come = [1000.0, 990.0, 1.0, 1.0, 1.0]
    active = requests(5, instance=on, prompt_tokens=[900] * 4 + [1700], predicted_tokens=10 + np.array(to_come))
    (move,) = Star(threshold=0.05).review(active, view)
    assert (move.request_id, move.target) == (0, 2)
    # The present alone is even enough.
    assert list(Star(threshold=0.05, steps=0).review(active, view)) == []


def test_star_says_what_its_formula_says(pool, requests):
    """By hand: two instances, three requests, now and one step of 2 s (100 tokens)."""
    view = pool(2, tpot_s=0.02, kv_tokens=1000)
    active = requests(3, prompt_tokens=[90, 190, 290], generated_tokens=10, predicted_tokens=[510.0, 510.0, 60.0])
    loads = np.array([[600, 500], [0, 0]]) / 1000
    weights = np.array([1.0, 0.5])
    outlook = _Outlook(Star(horizon_s=2.0, steps=1, decay=0.5), np.arange(3), active, view)
    assert outlook.imbalance() == pytest.approx(loads.var(axis=0) @ weights)
    moved = [np.array([[500, 300], [100, 200]]), np.array([[400, 200], [200, 300]]), np.array([[300, 500], [300, 0]])]
    after = [(each / 1000).var(axis=0) @ weights for each in moved]
    assert outlook.imbalance_after(np.arange(3), 0, 1) == pytest.approx(after)
    outlook.move(1, 0, 1)
    assert outlook.imbalance() == pytest.approx(after[1])
    # The best of the three, if it pays: 0.1 s of standstill against 50 tokens (1 s), or 500 (10 s).
    assert [move.request_id for move in Star(horizon_s=2.0, steps=1, decay=0.5).review(active, view)] == [1]
    assert list(Star(horizon_s=2.0, steps=1, decay=0.5, amortise=1000.0).review(active, view)) == []


def test_star_spares_whom_it_must(pool, requests):
    view = pool(2, tpot_s=0.02, kv_tokens=10_000)
    busy = {"predicted_tokens": 1000.0, "prompt_tokens": 500}
    rule = Star(threshold=0.05)
    assert len(list(rule.review(requests(4, **busy), view))) == 1
    for kept in ({"moving": True}, {"moves": 2}, {"generated_tokens": 0}, {"previous": 1, "moved_s": -5.0}):
        assert list(rule.review(requests(4, **busy, **kept), view)) == [], kept
    view.available[1] = False
    assert list(rule.review(requests(4, **busy), view)) == []
    full = pool(2, tpot_s=0.02, kv_tokens=2000)
    on = [0, 0, 0, 1, 1]
    assert list(rule.review(requests(5, instance=on, **{**busy, "predicted_tokens": 400.0}), full)) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": -1}, "rectifier.steps must be from 0 to 10000, not -1"),
        ({"decay": 0.0}, r"rectifier.decay must be in \(0, 1\], not 0.0"),
        ({"horizon_s": 0.0}, "rectifier.horizon_s must be a finite number greater than 0, not 0.0"),
        ({"threshold": -0.1}, "rectifier.threshold must be 0 or more, not -0.1"),
    ],
)
def test_star_refuses_what_it_cannot_keep(fields, message):
    with pytest.raises(ConfigError, match=message):
        Star(**fields)
