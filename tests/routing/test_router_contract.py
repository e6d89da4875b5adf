"""What every registered router keeps to. A new router is tested by existing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from routing_cases import busy_view, idle_view, request

from gsim.core import (
    HOLD,
    ClusterView,
    Completion,
    Decision,
    Learner,
    Placed,
    QueueOrder,
    Randomised,
    Router,
    Verdict,
    build,
    entries,
)

#: A router that replays a plan decides before the run, not from what it sees.
ROUTERS = sorted(name for name, entry in entries("router").items() if not getattr(entry.cls, "offline", False))
SIGNALS = (
    "available",
    "in_flight",
    "in_flight_prefill_tokens",
    "in_flight_tokens",
    "running",
    "waiting",
    "kv_usage",
    "scraped_s",
    "queue_s",
    "prefill_s_per_token",
    "tpot_s",
)


def made(name: str, seed: int = 7) -> Router:
    router = build("router", name)
    if isinstance(router, Randomised):
        router.seed(np.random.default_rng(seed))
    return router


def drive(router: Router, view: ClusterView, n: int = 60) -> Iterator[Decision]:
    """Route requests as a gateway would: place, count, and finish every third one."""
    for k in range(n):
        one = request(k, arrival_s=view.now_s)
        decision = router.route(one, view)
        yield decision
        if isinstance(decision, Verdict):
            continue
        view.in_flight[decision] += 1
        view.in_flight_prefill_tokens[decision] += one.prompt_tokens
        if isinstance(router, Placed):
            router.placed(one, decision)
        if k % 3 == 0:
            view.in_flight[decision] -= 1
            view.in_flight_prefill_tokens[decision] -= one.prompt_tokens
            if isinstance(router, Learner):
                now = view.now_s
                router.observe_completion(Completion(one, decision, now, now + 0.1, now + 2.0, 100))
        view.now_s += 0.5


@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize("n", [1, 2, 8, 33])
def test_picks_an_instance_that_is_up(name, n):
    view = busy_view(n)
    view.available[1::3] = False
    for decision in drive(made(name), view):
        assert isinstance(decision, Verdict) or (type(decision) is int and view.available[decision])


@pytest.mark.parametrize("name", ROUTERS)
def test_serves_an_idle_pool(name):
    """With every instance up and idle and time to spare, nobody holds or rejects."""
    router = made(name)
    for k in range(8):
        assert not isinstance(router.route(request(k, arrival_s=0.0, slo_s=1e3), idle_view(4)), Verdict)


@pytest.mark.parametrize("name", ROUTERS)
def test_nobody_is_up(name):
    view = busy_view(4)
    view.available[:] = False
    decision = made(name).route(request(), view)
    # A router that rejects what nobody can serve in time may reject; the others wait.
    assert decision is HOLD


@pytest.mark.parametrize("name", ROUTERS)
def test_same_seed_same_decisions(name):
    assert list(drive(made(name), busy_view(8))) == list(drive(made(name), busy_view(8)))


@pytest.mark.parametrize("name", ROUTERS)
def test_writes_nothing_into_the_view(name):
    view = busy_view(8)
    before = {signal: getattr(view, signal).copy() for signal in SIGNALS}
    static = {f.name: getattr(view.static, f.name) for f in dataclasses.fields(view.static)}
    static = {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in static.items()}
    matched = view.prefix_tokens(request()).copy()
    router = made(name)
    for k in range(20):
        router.route(request(k), view)
    for signal in SIGNALS:
        np.testing.assert_array_equal(getattr(view, signal), before[signal], err_msg=signal)
    for key, value in static.items():
        np.testing.assert_array_equal(getattr(view.static, key), value, err_msg=key)
    np.testing.assert_array_equal(view.prefix_tokens(request()), matched)


@pytest.mark.parametrize("name", ROUTERS)
def test_survives_instances_that_come_and_go(name):
    view = busy_view(6)
    router = made(name)
    for down in (0, 3, 5):
        view.available[:] = True
        view.available[down] = False
        # What was on it is gone, and the router is not told.
        view.in_flight[down] = 0
        view.in_flight_prefill_tokens[down] = 0
        assert all(isinstance(d, Verdict) or d != down for d in drive(router, view, 20))


@pytest.mark.parametrize("name", ROUTERS)
def test_uses_only_the_costly_signals_that_it_declares(name):
    router = made(name)
    needs = getattr(router, "needs", frozenset())
    assert needs <= {"scrape", "estimates", "prediction", "prefix"}
    view = busy_view(6)
    if "prediction" not in needs:
        view.predict = forbidden
        view.in_flight_tokens[:] = np.nan
    if "prefix" not in needs:
        view.prefix_tokens = forbidden
    if "scrape" not in needs:
        view.kv_usage[:] = np.nan
        view.running[:] = view.waiting[:] = -(1 << 40)
    if "estimates" not in needs:
        view.queue_s[:] = view.prefill_s_per_token[:] = view.tpot_s[:] = np.nan
    silent = list(drive(router, view))
    assert silent == list(drive(made(name), busy_view(6)))


def forbidden(*_: object) -> float:
    raise AssertionError("a costly signal was used without being declared in needs")


@pytest.mark.parametrize("name", ROUTERS)
def test_queue_keys_are_numbers(name):
    router = made(name)
    if isinstance(router, QueueOrder):
        assert np.isfinite(router.queue_key(request(), busy_view(4)))


@pytest.mark.parametrize("name", ROUTERS)
def test_docstring_states_formula_state_and_source(name):
    text = entries("router")[name].cls.__doc__ or ""
    assert "Source:" in text or name == "goodserve_prefix"
    assert "State:" in text or "(S" in text


#: Routers whose choice depends on the instances' signals alone, not on their order or on a random draw.
ORDERLESS = (
    "cache_aware",
    "edf",
    "fastest",
    "goodserve",
    "goodserve_prefix",
    "hexgen_alpha",
    "kv_cost",
    "least_latency",
    "least_load",
    "least_request",
    "llumnix_freeness",
    "lmetric",
    "prefix_then_load",
    "preble",
    "slo_pack",
    "weighted_jsq",
)


@pytest.mark.parametrize("name", ORDERLESS)
def test_renaming_the_instances_renames_the_choice(name):
    n = 8
    for seed in range(5):
        view = distinct_view(n, seed)
        order = np.random.default_rng(seed).permutation(n)
        chosen = made(name).route(request(seed), view)
        renamed = made(name).route(request(seed), permuted(view, order))
        assert isinstance(chosen, int)
        assert isinstance(renamed, int)
        assert order[renamed] == chosen


def distinct_view(n: int, seed: int) -> ClusterView:
    """A busy pool whose static speeds differ on every instance too: no ties anywhere."""
    view = busy_view(n, seed)
    factor = 1 + np.random.default_rng(seed).random(n)
    view.static.nominal_tpot_s *= factor
    view.static.nominal_prefill_s_per_token *= factor
    view.static.nominal_tokens_per_s /= factor
    view.static.kv_capacity_tokens[:] = 200_000 + np.arange(n) * 1600
    return view


def permuted(view: ClusterView, order: np.ndarray) -> ClusterView:
    static = {f.name: getattr(view.static, f.name) for f in dataclasses.fields(view.static)}
    static = {
        key: value[order]
        if isinstance(value, np.ndarray)
        else value
        if key == "block_size"
        else tuple(value[i] for i in order)
        for key, value in static.items()
    }
    other = ClusterView.of(type(view.static)(**static))
    for signal in SIGNALS:
        getattr(other, signal)[:] = getattr(view, signal)[order]
    other.now_s = view.now_s
    other.predict = view.predict
    other.prefix_tokens = lambda one: view.prefix_tokens(one)[order]
    return other
