"""Each router does what its formula says, on views where the answer is known by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from routing_cases import TPOT_S, idle_view, request

from gsim.core import HOLD, REJECT, ClusterView, Completion, ConfigError, Request, build


def choice(name: str, view: ClusterView, one: Request | None = None, **fields: Any) -> Any:
    if name.startswith("goodserve"):
        fields = {"margin_fraction": 0.1, "hope": 0.0, **fields}
    router = build("router", name, **fields)
    if hasattr(router, "seed"):
        router.seed(np.random.default_rng(1))
    return router.route(one or request(arrival_s=0.0), view)


def shares(name: str, view: ClusterView, draws: int = 4000, **fields: Any) -> np.ndarray:
    router = build("router", name, **fields)
    router.seed(np.random.default_rng(1))
    counts = Counter(router.route(request(k, arrival_s=0.0), view) for k in range(draws))
    return np.array([counts[i] / draws for i in range(len(view))])


def done(router: Any, instance: int, e2e_s: float, tokens: int, at_s: float = 10.0, request_id: int = 0) -> None:
    one = request(request_id, arrival_s=at_s - e2e_s)
    router.observe_completion(Completion(one, instance, at_s - e2e_s, at_s - e2e_s, at_s, tokens))


def prefixes(*tokens: int) -> Any:
    return lambda one: np.array(tokens, dtype=np.int64)


# ------------------------------------------------------------ no state, or counts
def test_round_robin_takes_turns_and_skips_the_dead():
    view = idle_view(4)
    router = build("router", "round_robin")
    assert [router.route(request(k), view) for k in range(5)] == [0, 1, 2, 3, 0]
    view.available[1] = False
    assert [router.route(request(k), view) for k in range(4)] == [2, 3, 0, 2]


def test_always_first_is_the_first_that_is_up():
    assert choice("always_first", idle_view(4)) == 0
    assert choice("always_first", idle_view(4, available=[False, False, True, True])) == 2


def test_random_is_uniform_over_what_is_up():
    assert shares("random", idle_view(4)) == pytest.approx(np.full(4, 0.25), abs=0.03)
    some = shares("random", idle_view(4, available=[True, False, True, True]))
    assert some == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=0.03)


def test_weighted_random_draws_by_throughput():
    weights = 1 / np.array(TPOT_S)
    assert shares("weighted_random", idle_view(4)) == pytest.approx(weights / weights.sum(), abs=0.03)
    weights[3] = 0
    down = shares("weighted_random", idle_view(4, available=[True, True, True, False]))
    assert down == pytest.approx(weights / weights.sum(), abs=0.03)


def test_least_request_takes_the_fewest_and_draws_among_ties():
    assert choice("least_request", idle_view(4, in_flight=[3, 2, 1, 2])) == 2
    assert shares("least_request", idle_view(4, in_flight=[3, 1, 1, 2])) == pytest.approx([0, 0.5, 0.5, 0], abs=0.03)
    assert choice("least_request", idle_view(4, in_flight=[3, 2, 1, 2], available=[True, True, False, False])) == 1


def test_least_request_may_take_the_first_of_equals():
    view = idle_view(4, in_flight=[3, 1, 1, 2])
    assert shares("least_request", view, ties="first") == pytest.approx([0, 1, 0, 0])
    view = idle_view(4, in_flight=[1, 1, 1, 2], available=[False, True, True, True])
    assert choice("least_request", view, ties="first") == 1
    with pytest.raises(ConfigError, match="router.ties"):
        build("router", "least_request", ties="last")


def test_power_of_two_never_takes_the_worst_and_avoids_what_does_not_accept():
    assert shares("power_of_two", idle_view(3, in_flight=[5, 1, 9])) == pytest.approx([1 / 3, 2 / 3, 0], abs=0.03)
    usage = idle_view(3, kv_usage=[0.5, 0.1, 0.9])
    assert shares("power_of_two", usage, metric="kv_usage") == pytest.approx([1 / 3, 2 / 3, 0], abs=0.03)
    assert choice("power_of_two", idle_view(2, in_flight=[5, 5]), max_ongoing=5) is HOLD
    assert choice("power_of_two", idle_view(2, in_flight=[5, 4]), max_ongoing=5) == 1
    assert build("router", "power_of_two").needs == frozenset()
    assert build("router", "power_of_two", metric="kv_usage").needs == {"scrape"}


def test_weighted_jsq_weighs_by_speed():
    # (F + 1) * TPOT: 0.06, 0.045, 0.022, 0.045
    assert choice("weighted_jsq", idle_view(4, in_flight=[0, 0, 0, 2])) == 2
    assert choice("weighted_jsq", idle_view(4, in_flight=[0, 0, 2, 4])) == 1


def test_least_load_is_drain_time_and_a_full_cache_costs():
    tokens = np.array([100.0, 100.0, 100.0, 200.0])
    assert choice("least_load", idle_view(4, in_flight_tokens=tokens)) == 2
    # Half full costs lambda = 0.15 s, more than the 0.02 s between them.
    assert choice("least_load", idle_view(4, in_flight_tokens=tokens, kv_usage=[0, 0, 0.5, 0])) == 3
    assert choice("least_load", idle_view(4, in_flight_tokens=tokens, kv_usage=[0, 0, 0.5, 0]), kv_weight_s=0.0) == 2


def test_edf_holds_when_full_and_orders_by_deadline():
    view = idle_view(2, in_flight=[128, 127])
    assert choice("edf", view) == 1
    assert choice("edf", idle_view(2, in_flight=[128, 128])) is HOLD
    router = build("router", "edf", drop_late=True)
    assert router.queue_key(request(arrival_s=1.0, slo_s=5.0), view) == 6.0
    # Alone on the faster card it needs 9.0 s.
    view.now_s = 1.0
    assert router.route(request(arrival_s=1.0, slo_s=9.2), view) == 1
    assert router.route(request(arrival_s=1.0, slo_s=8.8), view) is REJECT
    assert build("router", "edf").route(request(arrival_s=1.0, slo_s=8.8), view) == 1


def test_session_affinity_keeps_sessions_and_moves_only_those_of_the_dead():
    view = idle_view(8)
    router = build("router", "session_affinity")
    homes = {s: router.route(request(0, session_id=s), view) for s in range(400)}
    assert all(router.route(request(9, session_id=s, turn=3), view) == home for s, home in homes.items())
    assert np.bincount(list(homes.values()), minlength=8).min() > 25
    view.available[3] = False
    moved = {s for s, home in homes.items() if router.route(request(0, session_id=s), view) != home}
    assert moved == {s for s, home in homes.items() if home == 3}
    assert choice("session_affinity", idle_view(4, in_flight=[3, 0, 1, 2]), request(session_id=-1)) == 1


def test_helix_shares_by_throughput_and_respects_the_high_water_mark():
    view = idle_view(4)
    router = build("router", "helix_iwrr")
    counts = np.bincount([router.route(request(k), view) for k in range(2000)], minlength=4)
    weights = 1 / np.array(TPOT_S)
    assert counts == pytest.approx(2000 * weights / weights.sum(), abs=2)
    big = request(9999, prompt_tokens=150_000)
    for instance in range(4):
        router.placed(big._replace(request_id=9000 + instance), instance)
        view.in_flight[instance] = 1
    assert router.route(big, view) is HOLD
    done(router, 2, 1.0, 10, request_id=9002)
    assert router.route(big, view) == 2


# ------------------------------------------------------------ latencies
def test_fastest_minimises_predicted_latency():
    # T = queue + 100 p + 200 d
    view = idle_view(4)
    assert choice("fastest", view) == 3
    view.queue_s[3] = 2.0
    assert choice("fastest", view) == 2


def test_goodserve_takes_the_weakest_that_makes_it():
    # d * 200 = 12, 9, 4.4, 3; p * 100 adds 0.06, 0.045, 0.022, 0.015.
    view = idle_view(4)
    assert choice("goodserve", view) == 2
    assert choice("goodserve", view, request(arrival_s=0.0, slo_s=10.0)) == 1
    assert choice("goodserve", view, request(arrival_s=0.0, slo_s=100.0)) == 0
    assert choice("goodserve", view, margin_s=2.0) == 3
    assert choice("goodserve", view, margin_fraction=0.5) == 3
    view.now_s = 2.0
    assert choice("goodserve", view) == 3


def test_goodserve_reads_weakest_in_two_ways():
    view = idle_view(4, queue_s=[0, 0, 0, 2.5])
    assert choice("goodserve", view, margin_fraction=0.0) == 3
    assert choice("goodserve", view, weakest="slowest_then_largest_latency") == 2
    view = idle_view(8, queue_s=[0, 0, 0, 2.5, 0, 0, 0.5, 2.0])
    assert choice("goodserve", view, weakest="slowest_then_largest_latency") == 6


def test_goodserve_when_nothing_is_feasible():
    late = request(arrival_s=0.0, slo_s=1.0)
    view = idle_view(4)
    assert choice("goodserve", view, late) == 3
    assert choice("goodserve", view, late, infeasible="sacrifice") == 0
    assert choice("goodserve", view, late, infeasible="reject") is REJECT
    assert choice("goodserve", view, late, infeasible="defer") is HOLD
    view.now_s = 1.5
    assert choice("goodserve", view, late, infeasible="defer") is REJECT


@pytest.mark.parametrize("infeasible", ["fastest", "sacrifice", "reject", "defer"])
def test_goodserve_gives_up_only_what_is_lost(infeasible):
    # The fastest needs 3.015 s: within 3.1 s but not with the margin of 10 %.
    view = idle_view(4)
    close = request(arrival_s=0.0, slo_s=3.1)
    assert choice("goodserve", view, close, infeasible=infeasible) == 3
    hopeful = request(arrival_s=0.0, slo_s=2.5)
    assert choice("goodserve", view, hopeful, infeasible=infeasible, hope=0.25) == 3
    lost = {"fastest": 3, "sacrifice": 0, "reject": REJECT, "defer": HOLD}[infeasible]
    assert choice("goodserve", view, hopeful, infeasible=infeasible) == lost


def test_goodserve_prefix_subtracts_what_is_cached():
    one = request(arrival_s=0.0, prompt_tokens=4000, slo_s=6.0)
    # Prefill 1.8 s on class 1 at 45 ms: 9 s decode anyway; on class 2 0.88 + 4.4 s.
    view = idle_view(4, prefix_tokens=prefixes(0, 0, 0, 0))
    assert choice("goodserve_prefix", view, one) == choice("goodserve", view, one) == 2
    tight = one._replace(slo_s=4.9)
    assert choice("goodserve", view, tight) == 3
    view.prefix_tokens = prefixes(0, 0, 3900, 0)
    assert choice("goodserve_prefix", view, tight) == 2


def test_least_latency_uses_the_fleets_lengths_not_the_requests():
    view = idle_view(4, queue_s=[0, 0, 0.5, 1.0])
    router = build("router", "least_latency")
    # Cold: 10 prompt and 100 output tokens: 6, 4.5, 2.7, 2.5.
    assert router.route(request(), view) == 3
    done(router, 0, 1.0, 20)
    # 20 output tokens: 1.2, 0.9, 0.94, 1.3.
    assert router.route(request(), view) == 1


def test_latency_ema_explores_then_takes_the_fastest_per_token():
    view = idle_view(4)
    router = build("router", "latency_ema")
    for instance in (0, 1, 2):
        done(router, instance, 6.0 - instance, 100)
    assert router.route(request(), view) == 3
    done(router, 3, 5.0, 100)
    assert router.route(request(), view) == 2
    for _ in range(10):
        done(router, 2, 50.0, 100, at_s=60.0)
    assert router.route(request(), view) in (1, 3)
    view.now_s = 10.0 + 3601
    assert router.route(request(), view) in (0, 1, 3)


def test_latency_ema_may_look_at_first_tokens():
    view, router = idle_view(2), build("router", "latency_ema", latency="first_token")
    for instance, (first_s, end_s) in enumerate(((0.2, 9.0), (0.3, 1.0))):
        router.observe_completion(Completion(request(), instance, 0.0, first_s, end_s, 100))
    assert router.route(request(), view) == 0


def test_slo_headroom_prefers_little_headroom_and_falls_back_to_idle():
    view = idle_view(4)
    easy = shares("slo_headroom", idle_view(4, predict=lambda one: 90.0), explore=0.0)
    # Headroom of 0.54, 1.9, 3.9, 4.6 seconds: the least has the largest weight, the most has none.
    assert easy[0] > easy[1] > easy[2] > easy[3] == 0.0
    most = shares("slo_headroom", idle_view(4, predict=lambda one: 90.0), explore=0.0, strategy="most")
    assert most[3] > most[2] > most[1] > most[0] == 0.0
    late = request(arrival_s=0.0, slo_s=1.0)
    assert choice("slo_headroom", view, late) == 3
    view.in_flight[:] = [0, 1, 1, 1]
    assert choice("slo_headroom", view, late) == 0


# ------------------------------------------------------------ load and profiles
def test_hexgen_weighs_speed_against_backlog():
    tokens = np.array([0.0, 0.0, 0.0, 4000.0])
    assert choice("hexgen_alpha", idle_view(4, in_flight_tokens=tokens), alpha=1.0) == 3
    assert choice("hexgen_alpha", idle_view(4, in_flight_tokens=tokens), alpha=0.5) == 2
    assert choice("hexgen_alpha", idle_view(4, in_flight_tokens=tokens), alpha=0.0) == 0


def test_llumnix_takes_the_most_free_blocks_per_request():
    busy = {"running": [1, 2, 4, 8], "kv_usage": [0.81, 0.5, 0.2, 0.1]}
    # Free tokens per request: 38k, 50k, 40k, 22.5k.
    assert choice("llumnix_freeness", idle_view(4, **busy)) == 1
    waiting = idle_view(4, **busy, waiting=[0, 1, 0, 0], in_flight_prefill_tokens=[0, 50_000, 10_000, 0])
    # Instance 1 has to serve 50k waiting tokens; what instance 2 prefills is running already.
    assert choice("llumnix_freeness", waiting) == 2


def test_slo_pack_fills_the_strongest_type_that_has_room():
    view = idle_view(8)
    router = build("router", "slo_pack")
    # TPOT grows by 0.6 d / 48 per request from 0.8 d when alone: at 6 s, 95 fit on class 3, 44 on class 2.
    first = router.route(request(0, arrival_s=0.0), view)
    assert first == 3
    router.placed(request(0), first)
    view.in_flight[first] = 1
    assert router.route(request(1, arrival_s=0.0), view) == 3
    least = build("router", "slo_pack", placement="least")
    least.route(request(0, arrival_s=0.0), view)
    least.placed(request(0), 3)
    assert least.route(request(1, arrival_s=0.0), view) == 7
    # Only classes 2 and 3 make 6 s; once they are full the request waits though the others are idle.
    for k in range(2, 600):
        one = request(k, arrival_s=0.0)
        chosen = router.route(one, view)
        if chosen is HOLD:
            break
        router.placed(one, chosen)
        view.in_flight[chosen] += 1
    assert chosen is HOLD
    assert (view.in_flight[[0, 1, 4, 5]] == 0).all()
    assert view.in_flight[[2, 3, 6, 7]].tolist() == [44, 95, 44, 95]
    assert router.queue_key(request(slo_s=1.0), view) < router.queue_key(request(slo_s=2.0), view)


# ------------------------------------------------------------ prefixes
def test_cache_aware_follows_the_cache_until_load_is_out_of_balance():
    one = request(prompt_tokens=1000)
    view = idle_view(4, in_flight=[5, 3, 9, 4], prefix_tokens=prefixes(320, 0, 640, 640))
    assert choice("cache_aware", view, one) == 3
    assert choice("cache_aware", view, one, cache_threshold=0.7) == 1
    view.in_flight[:] = [5, 3, 9, 80]
    assert choice("cache_aware", view, one) == 1


def test_prefix_then_load_skips_overloaded_holders():
    one = request(prompt_tokens=1000)
    view = idle_view(4, in_flight=[2, 1, 2, 6], prefix_tokens=prefixes(64, 0, 128, 640))
    # mean 2.75, sd 1.9: the best holder is overloaded.
    assert choice("prefix_then_load", view, one) == 2
    assert choice("prefix_then_load", view, one, sigmas=3.0) == 3
    view.in_flight[3] = 10
    assert choice("prefix_then_load", view, one) == 1


def test_preble_exploits_a_long_match_and_explores_otherwise():
    one = request(prompt_tokens=1000)
    view = idle_view(4, prefix_tokens=prefixes(640, 0, 0, 0))
    # Exploit: the holder costs 45 d + 360 p = 2.9 s against 0.8 s on the fastest: rebalanced unless allowed.
    assert choice("preble", view, one) == 3
    assert choice("preble", view, one, rebalance=float("inf")) == 0
    view.prefix_tokens = prefixes(320, 0, 0, 0)
    assert choice("preble", view, one, rebalance=float("inf")) == 3


def test_preble_forgets_what_left_the_window():
    view = idle_view(4)
    router = build("router", "preble")
    for k in range(40):
        router.route(request(k), view)
        router.placed(request(k), 3)
    assert router.route(request(50), view) == 2
    view.now_s = 181.0
    assert router.route(request(51), view) == 3


def test_kv_cost_counts_blocks():
    one = request(prompt_tokens=1000)
    view = idle_view(4, in_flight_prefill_tokens=[0, 400, 800, 0], prefix_tokens=prefixes(0, 800, 0, 0))
    view.in_flight[:] = 1
    router = build("router", "kv_cost")
    assert router.route(one, view) == 1
    router.placed(request(7, prompt_tokens=8000), 1)
    assert router.route(one, view) in (0, 3)
    done(router, 1, 1.0, 10, request_id=7)
    assert router.route(one, view) == 1
    assert choice("kv_cost", view, one, overlap_credit=0.0) in (0, 3)
    # Prefill that costs nothing leaves what is held to decide: 500 blocks of another request on instance 1.
    careless = build("router", "kv_cost", overlap_score_weight=0.0)
    careless.placed(request(7, prompt_tokens=8000), 1)
    assert {careless.route(one, view) for _ in range(20)} == {0, 2, 3}
    crowded = idle_view(4, in_flight=[3, 1, 3, 3])
    assert (shares("kv_cost", crowded, 200) > 0).all()
    assert shares("kv_cost", crowded, 20, request_weight=1.0).tolist() == [0, 1, 0, 0]
    drawn = shares("kv_cost", view, temperature=1.0)
    assert drawn[1] == max(drawn)
    assert drawn.min() > 0


def test_kv_cost_forgets_what_was_lost_with_its_instance():
    view = idle_view(2, in_flight=[1, 1])
    router = build("router", "kv_cost")
    router.placed(request(1, prompt_tokens=50_000), 0)
    assert router.route(request(2), view) == 1
    view.in_flight[0] = 0
    assert {router.route(request(k), view) for k in range(20)} == {0, 1}
    # Booked before the instance was lost: finishing late must not be taken off twice.
    done(router, 0, 1.0, 10, request_id=1)
    assert {router.route(request(k), view) for k in range(20)} == {0, 1}


def test_lmetric_multiplies_tokens_and_requests():
    one = request(prompt_tokens=1000)
    view = idle_view(4, running=[4, 9, 1, 3], prefix_tokens=prefixes(0, 900, 0, 500))
    # 1000*5, 100*10, 1000*2, 500*4
    assert choice("lmetric", view, one) == 1
    view.waiting[1] = 11
    assert choice("lmetric", view, one) in (2, 3)


# ------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("goodserve", {"weakest": "strongest"}),
        ("goodserve", {"infeasible": "panic"}),
        ("goodserve", {"margin_s": float("nan")}),
        ("goodserve", {"margin_fraction": -0.1}),
        ("goodserve", {"hope": float("inf")}),
        ("power_of_two", {"metric": "mood"}),
        ("power_of_two", {"max_ongoing": 0}),
        ("least_load", {"kv_weight_s": -1.0}),
        ("latency_ema", {"samples": 0}),
        ("latency_ema", {"latency": "median"}),
        ("latency_ema", {"lowest_latency_buffer": -1.0}),
        ("latency_ema", {"ttl_s": 0.0}),
        ("least_latency", {"cold_prompt_tokens": 0.0}),
        ("cache_aware", {"cache_threshold": 1.5}),
        ("cache_aware", {"balance_abs_threshold": -1}),
        ("cache_aware", {"balance_rel_threshold": 0.5}),
        ("prefix_then_load", {"imbalance": -1}),
        ("prefix_then_load", {"sigmas": -1.0}),
        ("preble", {"window_s": 0.0}),
        ("preble", {"rebalance": 0.5}),
        ("preble", {"cold_output_tokens": 0.0}),
        ("kv_cost", {"temperature": -1.0}),
        ("kv_cost", {"overlap_score_weight": -1.0}),
        ("helix_iwrr", {"high_water": 1.5}),
        ("helix_iwrr", {"cold_output_tokens": 0.0}),
        ("slo_headroom", {"strategy": "some"}),
        ("slo_headroom", {"explore": 2.0}),
        ("slo_pack", {"placement": "stack"}),
        ("hexgen_alpha", {"alpha": 1.5}),
        ("edf", {"max_in_flight": 0}),
    ],
)
def test_impossible_options_are_refused_by_name(name, fields):
    with pytest.raises(ConfigError, match=f"router.{next(iter(fields))}"):
        build("router", name, **fields)


@pytest.mark.parametrize("name", ["goodserve", "goodserve_prefix"])
@pytest.mark.parametrize("weakest", ["largest_latency", "slowest_then_largest_latency"])
@pytest.mark.parametrize("infeasible", ["fastest", "sacrifice", "defer"])
def test_goodserve_decides_alike_by_plain_numbers_and_by_arrays(name, weakest, infeasible, monkeypatch):
    rng = np.random.default_rng(4)
    decisions = []
    for _ in range(60):
        view = idle_view(4, available=(rng.random(4) < 0.8).tolist(), queue_s=rng.choice([0.0, 0.5, 4.0], 4).tolist())
        view.prefix_tokens = prefixes(*rng.integers(0, 90, 4).tolist())
        one = request(prompt_tokens=100, slo_s=float(rng.choice([0.5, 2.0, 6.0, 20.0])), arrival_s=0.0)
        both = []
        for few in (32, 0):
            monkeypatch.setattr("gsim.routing.goodserve.FEW", few)
            both.append(choice(name, view, one, weakest=weakest, infeasible=infeasible, hope=0.2))
        assert both[0] == both[1]
        decisions.append(both[0])
    assert len(set(decisions)) > 2


def test_ttft_slo_takes_the_latest_first_token_that_is_in_time():
    view = idle_view(3)
    view.queue_s[:] = [0.1, 0.4, 0.9]
    view.prefill_s_per_token[:] = 0.0
    one = request(0, arrival_s=0.0, slo_s=2.0)
    assert build("router", "ttft_slo", ttft_slo_s=0.5).route(one, view) == 1
    assert build("router", "ttft_slo", ttft_share=0.5).route(one, view) == 2
    assert build("router", "ttft_slo", ttft_slo_s=0.05).route(one, view) == 0
    for wrong, said in (({"ttft_slo_s": 0.0}, "must be greater than 0"), ({"ttft_share": 1.5}, r"must be in \(0, 1\]")):
        with pytest.raises(ConfigError, match=said):
            build("router", "ttft_slo", **wrong)
