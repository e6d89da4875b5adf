"""The gateway's own parts: held requests, scrapes and their correction, the prefix index, decision logs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
from cluster_cases import constant_pool, paper_pool, poisson, simulate_on, single

from gsim.cluster import InstanceSpec, Status, TelemetryConfig
from gsim.core import HOLD, REJECT, ClusterView, Decision, Dependency, Job, Request, Session, TraceError
from gsim.engine import EngineConfig
from gsim.gateway.prefix_index import PrefixIndex
from gsim.latency import constant_profile


@dataclass
class OneAtATime:
    """Holds everything while anything is in flight; the most urgent first."""

    needs: ClassVar[frozenset[str]] = frozenset()
    asked: list[int] = field(default_factory=list)

    def route(self, request: Request, view: ClusterView) -> Decision:
        self.asked.append(request.request_id)
        return HOLD if view.in_flight.sum() else 0

    def queue_key(self, request: Request, view: ClusterView) -> float:
        return request.deadline_s


def test_held_requests_are_asked_again_in_the_routers_order():
    slos = [9.0, 7.0, 5.0, 3.0]

    def sessions():
        for i, slo in enumerate(slos):
            yield Session(i, 0.0, (Job(Request(i, 0.0, 10, 99, slo), 10),))

    r = simulate_on(constant_pool(1, 0.1), sessions(), OneAtATime()).requests
    # The first finds the pool free; the others wait and go by deadline, one second each.
    assert r["dispatched_s"] == pytest.approx([0.0, 3.0, 2.0, 1.0])


@dataclass
class Never:
    """Holds for ever."""

    def route(self, request: Request, view: ClusterView) -> Decision:
        return HOLD


def test_a_request_that_is_held_for_too_long_is_rejected():
    result = simulate_on(constant_pool(1, 0.1), single([0.0, 1.0], [10, 10], [5, 5]), Never(), max_hold_s=20.0)
    assert result.requests["status"].tolist() == [Status.REJECTED, Status.REJECTED]
    assert result.duration_s == pytest.approx(21.0)


@dataclass
class Picky:
    """Rejects odd requests."""

    def route(self, request: Request, view: ClusterView) -> Decision:
        return REJECT if request.request_id % 2 else 0


def test_rejected_requests_are_rows_too():
    r = simulate_on(constant_pool(1, 0.1), single([0.0] * 4, [10] * 4, [5] * 4), Picky()).requests
    assert r["status"].tolist() == [0, 1, 0, 1]
    assert r["instance"].tolist() == [0, -1, 0, -1]
    assert np.isnan(r["finished_s"][[1, 3]]).all()


@dataclass
class Watcher:
    """Remembers what the scraped signals said."""

    needs: ClassVar[frozenset[str]] = frozenset({"scrape"})
    seen: list[tuple[int, int, float]] = field(default_factory=list)

    def route(self, request: Request, view: ClusterView) -> Decision:
        self.seen.append((int(view.running[0]), int(view.waiting[0]), float(view.scraped_s[0])))
        return 0


@pytest.mark.parametrize(("correct", "expected"), [(True, 2), (False, 0)])
def test_scraped_signals_are_old_and_may_be_corrected(correct, expected):
    watcher = Watcher()
    telemetry = TelemetryConfig(interval_s=10.0, in_flight_correction=correct)
    simulate_on(constant_pool(1, 0.1), single([1.0, 2.0, 3.0], [10] * 3, [90] * 3), watcher, telemetry=telemetry)
    running, waiting, scraped_s = watcher.seen[-1]
    assert scraped_s == 0.0
    assert running + waiting == expected


def test_scrapes_see_the_engine():
    watcher = Watcher()
    telemetry = TelemetryConfig(interval_s=0.5)
    simulate_on(constant_pool(1, 0.1), single([1.0, 2.0, 3.1], [10] * 3, [90] * 3), watcher, telemetry=telemetry)
    assert watcher.seen[-1] == (2, 0, 3.0)


def request(request_id: int, *content: tuple[int, int]) -> Request:
    return Request(request_id, 0.0, sum(n for _, n in content), 99, 6.0, content=content)


def test_the_prefix_index_matches_whole_blocks_of_what_was_sent():
    index = PrefixIndex(np.array([1000, 1000]), 16)
    index.insert(request(0, (5, 100)), 1)
    assert index.match(request(1, (5, 50), (6, 20))).tolist() == [0, 48]
    index.insert(request(1, (5, 50), (6, 20)), 0)
    assert index.match(request(2, (5, 100))).tolist() == [48, 96]
    index.clear(1)
    assert index.match(request(3, (5, 100))).tolist() == [48, 0]


def test_the_prefix_index_forgets_the_least_recent_tail_first():
    index = PrefixIndex(np.array([64]), 16)
    index.insert(request(0, (5, 64)), 0)
    index.insert(request(1, (6, 32)), 0)
    assert index.match(request(2, (5, 64))).tolist() == [32]
    assert index.match(request(3, (6, 32))).tolist() == [32]


@dataclass
class PrefixWatcher:
    """Remembers what the prefix index said."""

    needs: ClassVar[frozenset[str]] = frozenset({"prefix"})
    seen: list[int] = field(default_factory=list)

    def route(self, request: Request, view: ClusterView) -> Decision:
        self.seen.append(int(view.prefix_tokens(request)[0]))
        return 0


@pytest.mark.parametrize(
    ("telemetry", "matched"),
    [
        ({}, 64),
        ({"prefix_block_tokens": 16}, 96),
        # Room for six blocks, and for three: two of them are the prompt's that came in between.
        ({"prefix_block_tokens": 16, "prefix_capacity": 0.1}, 64),
        ({"prefix_block_tokens": 16, "prefix_capacity": 0.05}, 16),
    ],
)
def test_the_prefix_index_has_the_block_length_and_the_size_that_telemetry_says(telemetry, matched):
    profile = constant_profile(0.1, kv_tokens=960)
    watcher = PrefixWatcher()
    asked = [
        request(i, content)._replace(arrival_s=float(i)) for i, content in enumerate([(5, 100), (6, 32), (5, 100)])
    ]
    sessions = (Session(one.request_id, one.arrival_s, (Job(one, 1),)) for one in asked)
    pool = (InstanceSpec("server", profile, EngineConfig()),)
    simulate_on(pool, sessions, watcher, telemetry=TelemetryConfig(**telemetry))
    assert watcher.seen == [0, 0, matched]


def test_decisions_and_samples_are_kept_on_demand():
    telemetry = TelemetryConfig(sample_interval_s=0.25, log_decisions=True)
    result = simulate_on(paper_pool(), poisson(0, 20, 20.0), "goodserve", telemetry=telemetry)
    routed = [row for row in result.decisions if row["what"] == "route"]
    assert [row["request_id"] for row in routed] == list(range(20))
    assert all(len(row["tpot_s"]) == 4 for row in routed)
    assert set(result.samples["instance"]) == {0, 1, 2, 3}
    assert np.all(np.diff(result.samples["time_s"]) >= 0)
    assert not simulate_on(paper_pool(), poisson(0, 20, 20.0), "goodserve").decisions


def test_work_is_counted_so_that_an_accidental_scan_shows():
    """A guard against cost that grows with the pool: counts per request, not times."""
    counts = []
    for n in (4, 16):
        result = simulate_on(constant_pool(n, 0.01), poisson(1, 40 * n, 5.0 * n), "round_robin")
        counts.append(result.counters["wakeups"] / (40 * n))
        assert result.counters["decisions"] == 40 * n
    assert max(counts) <= 4.0
    assert counts[1] <= 1.1 * counts[0]


def test_a_trace_that_counts_in_other_integers_is_refused_by_name():
    """Compiled code knows Python's own integers only: both builds say so, before anything runs."""
    sessions = single([0.0], [100], [50])
    (job,) = next(sessions).jobs
    odd = Session(0, 0.0, (job._replace(output_tokens=np.int64(50)),))
    with pytest.raises(TraceError, match=r"request 0: output_tokens must be an int, not np.int64\(50\)"):
        simulate_on(paper_pool(), iter([odd]))


@pytest.mark.parametrize("turns", [3, 1500])
def test_a_refused_request_takes_all_turns_after_it_along(turns):
    """However many there are: each refusal leads to the next one, but none of them inside another."""
    lone = Job(Request(0, 0.0, 1 << 30, 16, 6.0, session_id=0), 4)
    later = [
        Job(Request(i, math.nan, 10, 16, 6.0, session_id=0, turn=i), 4, after=(Dependency(i - 1, 0.0),))
        for i in range(1, turns)
    ]
    result = simulate_on(constant_pool(2, 0.01), iter([Session(0, 0.0, (lone, *later), 60.0)]))
    assert result.requests["status"].tolist() == [Status.REJECTED] + [Status.FAILED] * (turns - 1)
    assert result.sessions["missed"].tolist() == [turns]
