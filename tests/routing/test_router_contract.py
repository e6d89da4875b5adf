"""What registered routers keep to beyond their contract (gsim/contract): documented, and blind to names."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from routing_cases import busy_view, request

from gsim.core import (
    HOLD,
    ClusterView,
    Randomised,
    Router,
    build,
    entries,
)

#: A router that replays a plan decides before the run, not from what it sees.
ROUTERS = sorted(name for name, entry in entries("router").items() if not getattr(entry.cls, "offline", False))


SIGNALS = (
    *("available", "in_flight", "in_flight_prefill_tokens", "in_flight_tokens", "running", "waiting", "kv_usage"),
    *("scraped_s", "queue_s", "prefill_s_per_token", "tpot_s"),
)


def made(name: str, seed: int = 7) -> Router:
    router = build("router", name)
    if isinstance(router, Randomised):
        router.seed(np.random.default_rng(seed))
    return router


@pytest.mark.parametrize("name", ROUTERS)
def test_docstring_states_formula_state_and_source(name):
    text = entries("router")[name].cls.__doc__ or ""
    assert "Source:" in text
    assert "State:" in text or "(S" in text


@pytest.mark.parametrize("name", ROUTERS)
def test_nobody_is_up(name):
    """Ours hold, all of them: a request that no instance can take now may still be served in time."""
    view = busy_view(4)
    view.available[:] = False
    assert made(name).route(request(), view) is HOLD


#: Routers whose choice depends on the instances' signals alone, not on their order or on a random draw.
ORDERLESS = (
    "block",
    "cache_aware",
    "edf",
    "fastest",
    "goodserve",
    "goodserve_prefix",
    "hexagent",
    "hexgen_alpha",
    "kv_cost",
    "least_latency",
    "least_load",
    "least_request",
    "llumnix_freeness",
    "lmetric",
    "marginal",
    "prefix_then_load",
    "preble",
    "route_balance",
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
        else tuple(value[i] for i in order if value)
        for key, value in static.items()
    }
    other = ClusterView.of(type(view.static)(**static))
    for signal in SIGNALS:
        getattr(other, signal)[:] = getattr(view, signal)[order]
    other.now_s = view.now_s
    other.predict = view.predict
    other.prefix_tokens = lambda one: view.prefix_tokens(one)[order]
    seen = view.observed()
    there = dataclasses.replace(seen, instance=np.argsort(order)[seen.instance])
    other.observed = lambda: there
    return other
