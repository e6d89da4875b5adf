"""Guards against cost that grows where it must not: calls per request are counted, not seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cluster_cases import paper_pool, simulate_on

from benchmarks.counting import calls
from benchmarks.scale import scenario
from gsim.cluster import TelemetryConfig, simulate
from gsim.cluster.simulation import static_view
from gsim.core import ActiveRequests, ClusterView, Streams, build


def pools(copies: int):
    """The paper's pool, so many times over."""
    return tuple(replace(spec, name=f"{spec.name}-{i}") for i in range(copies) for spec in paper_pool())


def calls_per_request(copies: int, *, rate_per_s: float, requests: int, policies: bool = False, **trace) -> float:
    """Of a whole run of the paper's pool, so many times over, at ``rate_per_s`` per copy of the pool."""
    arrivals = build("trace", "paper", rate_per_s=rate_per_s * copies, requests=requests * copies, **trace)
    sessions = list(arrivals.sessions(Streams(0), build("slo", "fixed", seconds=6.0)))
    built = scenario(pools(copies), policies=policies)
    return calls(lambda: simulate(built, iter(sessions), 0)) / len(sessions)


def test_a_request_costs_as_much_in_a_large_pool():
    small, large = (calls_per_request(copies, rate_per_s=30.0, requests=150) for copies in (1, 12))
    assert large < 1.1 * small


def test_policies_cost_as_much_in_a_large_pool():
    """Telemetry, estimates and reviews go over all instances, but their number per request stays."""
    small, large = (calls_per_request(copies, rate_per_s=40.0, requests=200, policies=True) for copies in (1, 8))
    assert large < 1.2 * small


def test_a_request_costs_as_much_with_ten_times_the_output():
    lengths = ({"shortest_output_tokens": 20, "longest_output_tokens": 100}, {"shortest_output_tokens": 200})
    short = calls_per_request(1, rate_per_s=40.0, requests=300, **lengths[0])
    long = calls_per_request(
        1, rate_per_s=4.0, requests=300, longest_output_tokens=1000, max_output_tokens=1000, **lengths[1]
    )
    assert long < 1.2 * short


def test_a_request_costs_as_much_in_a_large_batch():
    """At 60 requests/s some 100 sequences decode together on an instance, at 2 requests/s a handful."""
    few, many = (calls_per_request(1, rate_per_s=rate, requests=300) for rate in (2.0, 60.0))
    assert many < 1.25 * few


@pytest.mark.parametrize("router", ["round_robin", "cache_aware"])
def test_a_long_prompt_costs_as_much_in_small_blocks(router):
    """Agents' prompts of thousands of tokens that share prefixes: what is cached is kept by runs, not by blocks."""
    trace = build("trace", "mix", rate_per_s=20.0, requests=150)
    sessions = list(trace.sessions(Streams(0), build("slo", "fixed", seconds=6.0)))

    def run_calls(block_size: int) -> int:
        telemetry = TelemetryConfig(prefix_block_tokens=block_size)
        # A sixth of the cards' KV cache, so that runs are evicted and requests preempted.
        pool = paper_pool(block_size=block_size, kv_blocks=20_480 // block_size, max_model_len=20_480)
        return calls(lambda: simulate_on(pool, iter(sessions), router, telemetry=telemetry))

    run_calls(512)  # what is made once per process is not counted
    large, small = run_calls(512), run_calls(16)
    assert 0.9 * large < small < 1.1 * large


def test_a_review_costs_as_much_with_ten_times_the_requests():
    def review_calls(n: int) -> int:
        monitor = build("rectifier", "risk_monitor")
        view, active = calm_view(), calm_requests(n)
        return calls(lambda: list(monitor.review(active, view)))

    assert review_calls(10_000) <= review_calls(1_000) + 5


def calm_view():
    """Four instances that are fast enough for everybody."""
    return ClusterView.of(static_view(paper_pool()))


def calm_requests(n: int) -> ActiveRequests:
    """``n`` requests that are in time."""
    zeros, ids = np.zeros(n, dtype=np.int64), np.arange(n)
    return ActiveRequests(
        request_id=ids,
        instance=ids % 4,
        prompt_tokens=zeros + 100,
        generated_tokens=zeros + 10,
        predicted_tokens=np.full(n, 200.0),
        arrival_s=np.zeros(n),
        dispatched_s=np.zeros(n),
        deadline_s=np.full(n, 1e6),
        moves=zeros,
        moving=np.zeros(n, dtype=np.bool_),
        previous=zeros - 1,
        moved_s=np.full(n, -np.inf),
    )
