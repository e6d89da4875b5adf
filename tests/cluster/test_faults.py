"""What goes wrong, and a load that changes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cluster_cases import poisson, single
from hypothesis import given
from hypothesis import strategies as st
from move_cases import Scripted, assert_sound, inside, spec

from gsim.cluster import Status
from gsim.cluster.fault_config import Fault, FaultConfig
from gsim.core import ConfigError, Dependency, Job, Request, Session
from gsim.workload.dynamics import Drift, LoadStep


def faulty(sessions, *planned, pool=None, router="least_request", on_crash="retry", **scenario):
    pool = pool or (spec("a"), spec("b"))
    faults = FaultConfig(planned=tuple(planned), on_crash=on_crash)
    return inside(pool, sessions, None, None, router, faults=faults, **scenario)


def test_a_crash_sends_its_requests_back_through_the_router():
    # Two requests on two instances; instance 0 dies for good after 20 iterations.
    crash = Fault("crash", at_s=0.205)
    result, run = faulty(single([0.0, 0.0], [100, 100], [50, 50]), crash)
    assert_sound_without_moves(result, run, 2)
    r = result.requests
    assert r["instance"].tolist() == [1, 1]
    assert result.counters["retries"] == 1
    assert r["retries"].tolist() == [1, 0]
    # 20 tokens had streamed: with them the prompt has 120 tokens, of which the newest was not computed yet.
    assert r["recomputed_tokens"].tolist() == [119, 0]
    assert r["finished_s"][0] == pytest.approx(0.205 + 0.30, abs=0.02)


def test_a_crash_can_fail_its_requests():
    result, run = faulty(single([0.0, 0.0], [100, 100], [50, 50]), Fault("crash", at_s=0.205), on_crash="fail")
    assert_sound_without_moves(result, run, 2, may_fail=True)
    assert result.requests["status"].tolist() == [Status.FAILED, Status.FINISHED]
    assert result.requests["generated_tokens"].tolist() == [20, 50]


class Blind:
    """A router that does not look whether an instance is up."""

    def route(self, request, view):
        return 0


@pytest.mark.parametrize("router", [Blind(), "always_first"])
def test_while_everything_is_down_requests_wait(router):
    crash = Fault("crash", at_s=0.1, for_s=2.0)
    result, run = faulty(single([0.0, 1.0], [100, 100], [50, 50]), crash, pool=(spec("a"),), router=router)
    assert_sound_without_moves(result, run, 2)
    assert np.all(result.requests["finished_s"] > 2.1)
    assert (result.counters["refused_connections"] > 0) == isinstance(router, Blind)


def test_an_instance_that_comes_back_is_used_again():
    crash = Fault("crash", at_s=0.1, for_s=0.5)
    result, run = faulty(single(np.arange(0, 2, 0.05), [100] * 40, [50] * 40), crash)
    assert_sound_without_moves(result, run, 40)
    served = result.requests["instance"]
    late = result.requests["dispatched_s"] > 0.7
    assert set(served[late]) == {0, 1}
    down = (result.requests["dispatched_s"] > 0.1) & (result.requests["dispatched_s"] < 0.6)
    assert set(served[down]) == {1}


def test_a_slow_down_stretches_iterations_while_it_lasts():
    slow = Fault("slow", at_s=0.5, for_s=1.0, factor=0.5)
    result, run = faulty(single([0.0], [100], [200]), slow, pool=(spec("a"),), router="always_first")
    assert_sound_without_moves(result, run, 1)
    # Half of the second between 0.5 and 1.5 s is lost.
    assert result.requests["finished_s"][0] == pytest.approx(2.5, abs=0.021)


def test_overlapping_slow_downs_end_with_the_last():
    slows = (Fault("slow", 0.5, 1.0, factor=0.5), Fault("slow", 1.0, 1.0, factor=0.25))
    result, _ = faulty(single([0.0], [100], [200]), *slows, pool=(spec("a"),), router="always_first")
    # 0.5 s lose a half, 1 s loses three quarters: 1 s in all.
    assert result.requests["finished_s"][0] == pytest.approx(3.0, abs=0.05)


def test_lost_telemetry_leaves_the_last_scrape():
    lost = Fault("telemetry", at_s=0.5, for_s=0.5)

    class Watcher:
        needs = frozenset({"scrape"})

        def __init__(self):
            self.seen = []

        def route(self, request, view):
            self.seen.append((view.now_s, view.scraped_s.copy()))
            return 1

    watcher = Watcher()
    arrivals = np.arange(0.05, 1.5, 0.1)
    sessions = single(arrivals, [10] * len(arrivals), [10] * len(arrivals))
    faulty_run(sessions, watcher, lost)
    for now_s, scraped_s in watcher.seen:
        assert scraped_s[1] > now_s - 0.06
        if 0.5 < now_s < 1.0:
            assert scraped_s[0] <= 0.5
        else:
            assert scraped_s[0] > now_s - 0.06


def faulty_run(sessions, router, *planned):
    from cluster_cases import simulate_on

    return simulate_on((spec("a"), spec("b")), sessions, router, faults=FaultConfig(planned=planned))


def test_a_degraded_link_slows_migrations():
    def stood(*planned):
        faults = FaultConfig(planned=planned)
        pool = (spec("a"), spec("b"))
        plan = Scripted({5: [(0, 1)]})
        result, run = inside(pool, single([0.0], [1600], [200]), plan, "kv_copy", faults=faults)
        assert_sound(result, run, 1)
        return result.moves["submitted_s"][0] - result.moves["stopped_s"][0] - 0.002

    assert stood(Fault("link", 0.2, 1.0, factor=0.1)) == pytest.approx(10 * stood(), rel=0.01)


def test_random_faults_are_replayable_and_independent_of_each_other():
    def run(seed, **config):
        pool = tuple(spec(f"i{i}") for i in range(3))
        result, inner = inside(
            pool, poisson(1, 200, 20.0), None, None, "least_request", seed, faults=FaultConfig(restart_s=1.0, **config)
        )
        assert_sound_without_moves(result, inner, 200)
        return result

    first = run(3, crash_every_s=3.0)
    assert first.counters["fault_crash"] > 3
    assert run(3, crash_every_s=3.0).requests["finished_s"].tobytes() == first.requests["finished_s"].tobytes()
    assert run(4, crash_every_s=3.0).requests["finished_s"].tobytes() != first.requests["finished_s"].tobytes()
    both = run(3, crash_every_s=3.0, slow_every_s=5.0, slow_for_s=0.5)
    assert both.counters["fault_slow"] > 0
    assert first.counters["fault_slow"] == 0


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"kind": "flood"}, "kind"),
        ({"at_s": -1.0}, "at_s"),
        ({"for_s": 0.0}, "for_s"),
        ({"factor": 0.0}, "factor"),
        ({"instance": -1}, "instance"),
    ],
)
def test_bad_faults_are_refused(fields, named):
    with pytest.raises(ConfigError, match=named):
        Fault(**fields)


@pytest.mark.parametrize("fields", [{"crash_every_s": 0.0}, {"slow_factor": 2.0}, {"on_crash": "pray"}])
def test_bad_fault_configurations_are_refused(fields):
    with pytest.raises(ConfigError, match=f"faults.{next(iter(fields))}"):
        FaultConfig(**fields)


def test_a_fault_of_an_instance_that_is_not_there_is_refused_before_the_clock_starts():
    with pytest.raises(ConfigError, match="instance 2 does not exist"):
        faulty(single([0.0], [10], [10]), Fault(instance=2))


# ------------------------------------------------------------------------------------------------------- dynamics
def arrivals_of(sessions):
    return [session.arrival_s for session in sessions]


def test_a_burst_packs_arrivals_and_shifts_the_rest():
    # One arrival a second; from 2 s on, for 2 s, twice as fast: four arrivals instead of two.
    burst = LoadStep(at_s=2.0, for_s=2.0, factor=2.0)
    moved = arrivals_of(burst.apply(single(np.arange(9.0), [10] * 9, [10] * 9)))
    assert moved == pytest.approx([0, 1, 2, 2.5, 3, 3.5, 4, 5, 6])


def test_a_step_without_end_keeps_its_rate():
    step = LoadStep(at_s=2.0, factor=0.5)
    assert arrivals_of(step.apply(single(np.arange(5.0), [10] * 5, [10] * 5))) == pytest.approx([0, 1, 2, 4, 6])


@given(st.lists(st.floats(0, 1e4), min_size=1), st.floats(0, 1e3), st.floats(0.1, 1e3), st.floats(0.01, 100))
def test_a_step_keeps_the_order_and_the_requests(arrivals, at_s, for_s, factor):
    sessions = list(single(sorted(arrivals), [10] * len(arrivals), [10] * len(arrivals)))
    moved = list(LoadStep(at_s, for_s, factor).apply(iter(sessions)))
    times = arrivals_of(moved)
    assert all(early <= late + 1e-9 for early, late in itertools.pairwise(times))
    for old, new in zip(sessions, moved, strict=True):
        assert new.jobs[0].request.arrival_s == pytest.approx(new.arrival_s)
        assert new.jobs[0]._replace(request=old.jobs[0].request) == old.jobs[0]


def test_later_turns_keep_waiting_for_their_predecessors():
    later = Job(Request(1, float("nan"), 10, 99, 6.0), 10, after=(Dependency(0, 1.0),))
    first = Job(Request(0, 3.0, 10, 99, 6.0), 10)
    (moved,) = LoadStep(at_s=2.0, factor=2.0).apply(iter([Session(0, 3.0, (first, later))]))
    assert moved.jobs[0].request.arrival_s == 2.5
    assert np.isnan(moved.jobs[1].request.arrival_s)


def test_outputs_drift_within_their_limit():
    drift = Drift(at_s=10.0, over_s=10.0, factor=2.0)
    sessions = single([0.0, 10.0, 15.0, 30.0], [10] * 4, [100] * 4)
    assert [s.jobs[0].output_tokens for s in drift.apply(sessions)] == [100, 100, 150, 200]
    tight = single([30.0], [10], [60_000])
    assert [s.jobs[0].output_tokens for s in drift.apply(tight)] == [1 << 16]


def test_only_the_named_task_drifts():
    sessions = single([30.0], [10], [100])
    assert [s.jobs[0].output_tokens for s in Drift(task="code_agent").apply(sessions)] == [100]


@pytest.mark.parametrize("make", [lambda: LoadStep(factor=0.0), lambda: LoadStep(for_s=-1.0), lambda: Drift(over_s=-1)])
def test_bad_dynamics_are_refused(make):
    with pytest.raises(ConfigError, match="dynamics"):
        make()


def assert_sound_without_moves(result, run, n, *, may_fail=False):
    """Invariants 1 to 4 where nobody migrates."""
    r = result.requests
    assert result.moves == {}
    assert np.array_equal(r["request_id"], np.arange(n))
    finished = r["status"] == Status.FINISHED
    assert may_fail or finished.all()
    assert np.array_equal(r["generated_tokens"][finished], r["output_tokens"][finished])
    assert np.all(r["finished_s"][finished] >= r["first_token_s"][finished])
    assert not run.gateway.view.in_flight.any()
    for instance in run.instances:
        assert instance.gauges(run.clock.now + 1e6) == (0, 0, 0.0)
