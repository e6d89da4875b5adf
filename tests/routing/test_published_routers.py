"""Block, RouteBalance, Lodestar and HexAGenT do what their formulas say, and their parts learn what is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from routing_cases import busy_view, idle_view, request

from gsim.core import HOLD, ClusterView, Completion, ConfigError, build
from gsim.routing.online_regression import OnlineRegression
from gsim.routing.small_network import SmallNetwork


# ------------------------------------------------------------------------------------------------------------- block
def ends_s(view: ClusterView, prompt_tokens: int, tokens: float, instance: int, since: list[float]) -> float:
    """When a new request would end there: the long way, from one leaver of the batch to the next."""
    seen, static = view.observed(), view.static
    here = seen.instance == instance
    left = np.maximum(seen.predicted_tokens - seen.generated_tokens, 10.0)[here].tolist() + since
    slope_s = float(static.batch_slope_s()[instance])
    tpot_s = float(view.tpot_s[instance])
    wait_s = float(view.queue_s[instance] + view.prefill_s_per_token[instance] * prompt_tokens)
    left = sorted(max(k - wait_s / tpot_s, 0.0) for k in left)
    now_s, done, pace_s = wait_s, 0.0, tpot_s + slope_s
    for k in left:
        upto = min(k, tokens)
        now_s += (upto - done) * pace_s
        done, pace_s = upto, pace_s - slope_s
    return now_s + (tokens - done) * pace_s


def crowded(seed: int) -> ClusterView:
    """A busy pool on which a batch of so many can be as slow as its TPOT says."""
    view = busy_view(5, seed)
    counts = np.bincount(view.observed().instance, minlength=5)
    view.tpot_s += view.static.batch_slope_s() * counts
    return view


def test_block_plays_every_batch_on_until_the_request_ends():
    for seed in range(20):
        view, one = crowded(seed), request(seed)
        latencies = [ends_s(view, one.prompt_tokens, view.predict(one), i, []) for i in range(5)]
        assert build("router", "block").route(one, view) == int(np.argmin(latencies))


def test_block_counts_what_was_sent_since_the_streams_were_observed():
    view, router = crowded(3), build("router", "block")
    view.static.nominal_tokens_per_s /= 4  # a batch that grows is felt
    since: list[list[float]] = [[] for _ in range(5)]
    for k in range(40):
        one = request(1000 + k)
        latencies = [ends_s(view, one.prompt_tokens, view.predict(one), i, since[i]) for i in range(5)]
        chosen = router.route(one, view)
        assert chosen == int(np.argmin(latencies))
        router.placed(one, chosen)
        since[chosen].append(view.predict(one))
        view.tpot_s[chosen] += view.static.batch_slope_s()[chosen]


def test_block_forgets_who_has_ended_or_is_observed_now():
    view, router = crowded(1), build("router", "block")
    first, second = request(1000), request(1001)
    for one in (first, second):
        router.placed(one, router.route(one, view))
    router.observe_completion(Completion(first, 0, 100.0, 100.1, 101.0, 5))
    assert list(router._since) == [1001]
    seen = view.observed()
    anew = replace(seen, request_id=np.append(seen.request_id[1:], 1001))
    view.observed = lambda: anew
    router.route(request(1002), view)
    assert not router._since


# ------------------------------------------------------------------------------------------------------ route_balance
def test_a_regression_finds_the_line_that_is_there():
    rng = np.random.default_rng(0)
    line = OnlineRegression(prior=np.array([0.0, 1.0]), scale=np.array([1.0, 1.0]))
    for _ in range(300):
        x = np.array([1.0, rng.uniform(0.0, 10.0)])
        line.learn(x, float(0.5 + 0.2 * x[1] + rng.normal(0.0, 0.1)), noise=0.1)
    assert line.weights == pytest.approx([0.5, 0.2], abs=0.05)


def test_a_regression_stays_sober_where_a_feature_never_varies():
    """With plain forgetting the unseen coefficient is believed to be anything after some thousand samples."""
    line = OnlineRegression(prior=np.array([0.0, 1.0]), scale=np.array([1.0, 1.0]))
    for _ in range(20_000):
        line.learn(np.array([1.0, 0.0]), 0.5, noise=0.1)
    line.learn(np.array([1.0, 1.0]), 1.6, noise=0.1)
    assert line.weights == pytest.approx([0.5, 1.1], abs=0.02)


def taken(router, instance: int, k: int, view: ClusterView, tpot_s: float) -> None:
    """A request that is sent and finishes."""
    one = request(k, arrival_s=view.now_s)
    router.route(one, view)
    router.placed(one, instance)
    first_s = view.now_s + 0.1
    router.observe_completion(Completion(one, instance, view.now_s, first_s, first_s + 100 * tpot_s, 101))
    view.now_s += 0.1


def test_route_balance_learns_how_slow_a_kind_is():
    view, router = idle_view(8), build("router", "route_balance")
    assert router.route(request(), view) == 3
    for k in range(60):
        taken(router, 3, k, view, tpot_s=0.080)
    # Its brother of the same type was never used: what was learned holds for it too.
    assert router.route(request(99), view) == 2


def test_route_balance_reckons_on_until_the_next_scrape():
    view, router = idle_view(8), build("router", "route_balance")
    view.scraped_s[:] = 1.0
    for k in range(400):  # on the fast kind, latency grows with what is cached
        view.kv_usage[3] = (k % 10) / 10
        taken(router, 3, k, view, tpot_s=0.015 * (1 + view.kv_usage[3]))
    view.kv_usage[3] = 0.0
    assert router.route(request(500), view) == 3
    for k in range(10):
        router.placed(request(600 + k, prompt_tokens=18_000), 3)
    assert router.route(request(500), view) == 7
    view.scraped_s[:] = view.now_s  # the scrape did not see them: nobody is there
    assert router.route(request(500), view) == 3


# ----------------------------------------------------------------------------------------------------------- lodestar
def test_a_network_learns_a_bend():
    rng = np.random.default_rng(0)
    network = SmallNetwork(inputs=2, hidden=16, rate=0.01, rng=rng)
    x = rng.uniform(-1.0, 1.0, (500, 2))
    y = np.maximum(x[:, 0], 0.0) - 0.5 * x[:, 1]
    assert (network.at(x) == 0.0).all(), "it begins without an opinion"
    for _ in range(1500):
        drawn = rng.integers(0, 500, 32)
        network.learn(x[drawn], y[drawn])
    assert np.abs(network.at(x) - y).mean() < 0.03


@pytest.mark.parametrize("reward", ["e2e", "ttft"])
def test_lodestar_goes_where_its_own_choices_went_well(reward):
    view, router = idle_view(4), build("router", "lodestar", warm=100, explore=0.0, reward=reward, rate=0.01)
    router.seed(np.random.default_rng(1))
    assert router.route(request(), view) == 3, "the nominally fastest, while it knows nothing"
    for k in range(600):
        one = request(k)
        router.route(one, view)
        instance = k % 4
        router.placed(one, instance)
        first_s, rest_s = {"e2e": (0.1, [5.0, 1.0, 5.0, 5.0]), "ttft": (0.0, [2.0, 0.1, 2.0, 2.0])}[reward]
        first_s = first_s or rest_s[instance]
        router.observe_completion(Completion(one, instance, 0.0, first_s, first_s + rest_s[instance], 50))
    assert router.route(request(), view) == 1


# ----------------------------------------------------------------------------------------------------------- hexagent
def test_hexagent_lets_the_workflow_go_first_that_is_behind():
    # Alone a request takes 100 * 0.15 ms + 200 * 15 ms = 3.015 s on the best card, so 9.045 s at scale 3.
    view, router = idle_view(4), build("router", "hexagent")
    first = request(0, arrival_s=0.0, session_id=1)
    router.route(first, view)
    assert router.queue_key(first, view) == pytest.approx(9.045 - 3.015)
    router.observe_completion(Completion(first, 3, 0.0, 0.1, 20.0, 200))
    # It ended 10.955 s behind; five seconds between its calls are nobody's fault.
    view.now_s = 25.0
    second = request(1, arrival_s=25.0, session_id=1, turn=1)
    router.route(second, view)
    assert router.queue_key(second, view) == pytest.approx(9.045 + 5.0 + 9.045 - 3.015)
    fresh = request(2, arrival_s=25.0, session_id=2)
    router.route(fresh, view)
    assert router.queue_key(second, view) < router.queue_key(fresh, view)
    before = router.queue_key(second, view)
    view.now_s = 26.0
    router.route(second, view)
    assert router.queue_key(second, view) == before, "asked again, it is no new call"


def test_hexagent_holds_what_does_not_fit():
    router = build("router", "hexagent")
    view = idle_view(2, in_flight=[5, 5], in_flight_tokens=[190_000.0, 170_000.0])
    assert router.route(request(arrival_s=0.0), view) == 1, "0.9 of 200,000"
    view.in_flight_prefill_tokens[1] = 4000
    assert router.route(request(arrival_s=0.0), view) is HOLD, "two iterations' worth of prompts wait there"
    view.in_flight[0] = 0
    assert router.route(request(arrival_s=0.0), view) == 0


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        *[("lodestar", field, 0) for field in ("hidden", "memory", "train_every", "warm", "rate")],
        *[("lodestar", "explore", 1.5), ("lodestar", "reward", "tpot")],
        *[("hexagent", field, 0.0) for field in ("scale", "fill", "ahead", "forget_s")],
    ],
)
def test_impossible_fields_are_refused(name, field, value):
    with pytest.raises(ConfigError, match=f"router.{field}"):
        build("router", name, **{field: value})
