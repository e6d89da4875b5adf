"""Verification: the cluster against queueing theory (M/M/1, M/M/c by Erlang C, Little's law).

With constant iteration times a request of n tokens holds one of ``max_num_seqs`` places for n iterations. Geometric
lengths of a long mean make that nearly exponential: theory applies up to one iteration.
"""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest
from cluster_cases import constant_pool, single
from scipy import stats

ITERATION_S = 0.005
MEAN_TOKENS = 200
SERVICE_S = ITERATION_S * MEAN_TOKENS


def erlang_c_wait_s(arrival_per_s: float, service_s: float, servers: int) -> float:
    """Mean wait of M/M/c (Erlang C): P(wait) / (c / s - lambda)."""
    load = arrival_per_s * service_s
    tail = load**servers / factorial(servers) * servers / (servers - load)
    waits = tail / (sum(load**k / factorial(k) for k in range(servers)) + tail)
    return waits / (servers / service_s - arrival_per_s)


def mean_wait_s(run, seed: int, servers: int, utilisation: float, n: int = 8000) -> float:
    rng = np.random.default_rng(seed)
    rate = utilisation * servers / SERVICE_S
    arrivals = np.cumsum(rng.exponential(1 / rate, n))
    outputs = rng.geometric(1 / MEAN_TOKENS, n)
    pool = constant_pool(1, ITERATION_S, max_num_seqs=servers)
    r = run(pool, single(arrivals, [1] * n, outputs), "always_first").requests
    waits = r["finished_s"] - r["arrival_s"] - outputs * ITERATION_S
    return float(np.mean(waits[n // 10 :]))


@pytest.mark.parametrize(("servers", "utilisation"), [(1, 0.5), (1, 0.7), (4, 0.7), (16, 0.85)])
def test_mean_wait_is_erlang_c(run, servers, utilisation):
    rate = utilisation * servers / SERVICE_S
    theory = erlang_c_wait_s(rate, SERVICE_S, servers)
    waits = [mean_wait_s(run, seed, servers, utilisation) for seed in range(6)]
    low, high = stats.t.interval(0.99, len(waits) - 1, np.mean(waits), stats.sem(waits))
    # An arrival waits for the next iteration boundary, at most one iteration.
    assert low - ITERATION_S <= theory <= high + ITERATION_S


def test_littles_law_holds_on_every_sample_path(run):
    rng = np.random.default_rng(11)
    n = 3000
    arrivals = np.cumsum(rng.exponential(0.05, n))
    outputs = rng.geometric(1 / 100, n)
    result = run(constant_pool(4, 0.004, max_num_seqs=2), single(arrivals, [50] * n, outputs), "least_request")
    r = result.requests
    end = result.duration_s
    # The mean number in the system, integrated event by event, against arrival rate times mean time in the system.
    times = np.concatenate([r["arrival_s"], r["finished_s"]])
    steps = np.concatenate([np.ones(n), -np.ones(n)])
    order = np.argsort(times, kind="stable")
    inside = np.cumsum(steps[order])[:-1]
    mean_inside = float(np.sum(inside * np.diff(times[order]))) / end
    assert mean_inside == pytest.approx(n / end * np.mean(r["finished_s"] - r["arrival_s"]), rel=1e-9)


def test_more_servers_wait_less(run):
    assert mean_wait_s(run, 3, 8, 0.8, n=3000) < mean_wait_s(run, 3, 2, 0.8, n=3000)
