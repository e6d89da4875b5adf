"""The numbered invariants of docs/invariants.md, on whole runs, under every router."""

from __future__ import annotations

import numpy as np
import pytest
from cluster_cases import columns_equal, constant_pool, paper_pool, poisson, simulate_on, single
from hypothesis import given, settings
from hypothesis import strategies as st

from gsim.cluster import InstanceSpec, Status, TelemetryConfig
from gsim.core import ConfigError, Dependency, Job, Request, Session, TraceError, entries
from gsim.engine import EngineConfig
from gsim.latency import constant_profile, load_profile

ROUTERS = [name for name, entry in entries("router").items() if not getattr(entry.cls, "offline", False)]


def assert_invariants(result, n: int) -> None:
    """1 every request ends exactly once, 2 tokens are conserved, 4 causality."""
    r = result.requests
    assert np.array_equal(r["request_id"], np.arange(n))
    finished = r["status"] == Status.FINISHED
    assert np.array_equal(r["generated_tokens"][finished], r["output_tokens"][finished])
    assert np.all(np.isfinite(r["finished_s"]) == finished)
    f = {name: values[finished] for name, values in r.items()}
    assert np.all(f["arrival_s"] <= f["dispatched_s"])
    assert np.all(f["dispatched_s"] < f["first_token_s"])
    assert np.all(f["first_token_s"] <= f["finished_s"])
    assert np.all((f["output_tokens"] > 1) == (f["first_token_s"] < f["finished_s"]))
    assert sum(i.requests for i in result.instances) == np.count_nonzero(r["instance"] >= 0)


@pytest.mark.parametrize("router", ROUTERS)
def test_every_request_ends_once_and_the_same_seed_gives_the_same_bytes(run, router):
    first = run(paper_pool(), poisson(1, 150, 60.0), router, seed=5)
    assert_invariants(first, 150)
    again = run(paper_pool(), poisson(1, 150, 60.0), router, seed=5)
    assert columns_equal(first.requests, again.requests)


@pytest.mark.parametrize("engine", ["stepwise", "decode_clock"])
def test_scaling_every_duration_by_two_scales_every_latency_by_two(run, engine):
    def latencies(factor: float):
        arrivals = np.cumsum(np.random.default_rng(3).exponential(0.05, 120)) * factor
        outputs = np.random.default_rng(4).integers(1, 60, 120)
        pool = constant_pool(3, 0.0078125 * factor, max_num_seqs=4, engine=engine)
        telemetry = TelemetryConfig(interval_s=0.5 * factor, stream_interval_s=0.5 * factor)
        return run(pool, single(arrivals, [64] * 120, outputs), "round_robin", telemetry=telemetry).requests

    once, twice = latencies(1.0), latencies(2.0)
    for name in ("arrival_s", "dispatched_s", "first_token_s", "finished_s"):
        assert np.array_equal(2.0 * once[name], twice[name]), name


def test_permuting_request_ids_changes_nothing_but_the_ids(run):
    n = 80
    rng = np.random.default_rng(7)
    arrivals = np.cumsum(rng.exponential(0.02, n))
    outputs = rng.integers(5, 80, n)
    ids = rng.permutation(n)

    def sessions(names):
        for i in range(n):
            yield Session(
                int(names[i]), arrivals[i], (Job(Request(int(names[i]), arrivals[i], 100, 999, 6.0), int(outputs[i])),)
            )

    plain = run(paper_pool(), sessions(np.arange(n)), "least_request").requests
    named = run(paper_pool(), sessions(ids), "least_request").requests
    for column in ("instance", "first_token_s", "finished_s"):
        assert np.array_equal(plain[column], named[column][ids]), column


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0, 2), st.integers(1, 200), st.integers(1, 120)), min_size=1, max_size=25),
    st.integers(14, 40),
    st.sampled_from(["stepwise", "decode_clock"]),
)
def test_invariants_hold_when_memory_is_tight(requests, kv_blocks, engine):
    requests = sorted(requests)
    config = EngineConfig(name=engine, kv_blocks=kv_blocks)
    pool = (InstanceSpec("only", load_profile("a40-llama-3.1-8b"), config),)
    result = simulate_on(pool, single(*zip(*requests, strict=True)))
    r = result.requests
    assert np.array_equal(r["request_id"], np.arange(len(requests)))
    too_big = np.array([-(-(p + o) // 16) > kv_blocks for _, p, o in requests])
    assert np.all(r["status"][~too_big] == Status.FINISHED)


def test_an_instance_with_work_and_room_is_never_idle(run):
    # One server, everything at time 0: it must be busy from the first arrival to the last token.
    result = run(constant_pool(1, 0.01, max_num_seqs=2), single([0.0] * 9, [10] * 9, range(3, 12)))
    assert result.instances[0].busy_s == pytest.approx(result.duration_s, rel=1e-12)


def test_a_session_is_replayed_closed_loop(run):
    def job(i: int, *after: Dependency) -> Job:
        request = Request(i, 0.0 if not after else float("nan"), 10, 99, 50.0, session_id=0, turn=i)
        return Job(request, 10, after=after)

    # 0 -> (1 after 2 s, 2 at its dispatch) -> 3 joins both
    jobs = (
        job(0),
        job(1, Dependency(0, 2.0)),
        job(2, Dependency(0, 0.25, on_completion=False)),
        job(3, Dependency(1, 1.0), Dependency(2, 0.0)),
    )
    result = run(constant_pool(1, 0.1), iter([Session(0, 0.0, jobs, slo_s=10.0)]))
    r = result.requests
    assert r["arrival_s"] == pytest.approx([0.0, 1.0 + 2.0, 0.25, 3.0 + 1.0 + 1.0])
    assert r["finished_s"][3] == pytest.approx(6.0)
    assert result.sessions["finished_s"] == pytest.approx([6.0])
    assert result.sessions["missed"].tolist() == [0]


def test_a_job_may_wait_for_the_dispatch_and_the_end_of_one_parent(run):
    parent = Job(Request(0, 0.0, 10, 99, 50.0, session_id=0), 10)
    both = (Dependency(0, 5.0, on_completion=False), Dependency(0, 0.5))
    child = Job(Request(1, float("nan"), 10, 99, 50.0, session_id=0, turn=1), 10, after=both)
    result = run(constant_pool(1, 0.1), iter([Session(0, 0.0, (parent, child))]))
    assert result.requests["arrival_s"] == pytest.approx([0.0, 5.0])


def test_what_depends_on_a_refused_request_fails_with_it(run):
    first = Job(Request(0, 0.0, 10_000, 99, 50.0, session_id=0), 10)
    second = Job(Request(1, float("nan"), 10, 99, 50.0, session_id=0), 10, after=(Dependency(0, 1.0),))
    third = Job(Request(2, float("nan"), 10, 99, 50.0, session_id=0), 10, after=(Dependency(1, 1.0),))
    config = EngineConfig(kv_blocks=50)
    pool = (InstanceSpec("small", constant_profile(0.1), config),)
    result = run(pool, iter([Session(0, 0.0, (first, second, third))]))
    assert result.requests["status"].tolist() == [Status.REJECTED, Status.FAILED, Status.FAILED]
    assert result.sessions["missed"].tolist() == [3]


def test_arrivals_that_run_backwards_are_refused(run):
    with pytest.raises(TraceError, match="before its predecessor"):
        run(constant_pool(1, 0.1), single([5.0, 1.0], [10, 10], [10, 10]))


def test_bad_scenarios_are_refused_before_the_clock_starts(run):
    with pytest.raises(ConfigError, match="pool.instances is empty"):
        run((), iter(()))
    twice = constant_pool(1, 0.1) * 2
    with pytest.raises(ConfigError, match="name 'server-0' is used twice"):
        run(twice, iter(()))
    with pytest.raises(ConfigError, match="telemetry.interval_s must be 1e-06 or more, not -1"):
        TelemetryConfig(interval_s=-1)


def test_an_empty_stream_of_sessions_ends_at_once(run):
    result = run(constant_pool(2, 0.1), iter(()))
    assert len(result.requests["request_id"]) == 0
    assert result.duration_s == 0.0
