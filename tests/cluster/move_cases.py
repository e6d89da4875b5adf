"""Rectifiers that move what a test says, and runs whose pool can be looked into afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

import numpy as np

from gsim.cluster import InstanceSpec, RunResult, Scenario, Status, TelemetryConfig
from gsim.cluster.simulation import _Run
from gsim.core import ActiveRequests, ClusterView, Migration, Outcome, Session, Streams, build
from gsim.latency import constant_profile


@dataclass
class Scripted:
    """Moves requests at stated times (review number -> migrations), those that are in flight and somewhere else."""

    plan: dict[int, list[tuple[int, int]]]
    interval_s: float = 0.1
    reviews: int = 0
    needs: ClassVar[frozenset[str]] = frozenset()

    def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
        self.reviews = round(view.now_s / self.interval_s)
        where = dict(zip(active.request_id.tolist(), active.instance.tolist(), strict=True))
        planned = self.plan.get(self.reviews, [])
        return [Migration(request, target) for request, target in planned if where.get(request, target) != target]


@dataclass
class Wild:
    """Moves requests at random, sensibly or not."""

    salt: int
    share: float
    interval_s: float = 0.05
    needs: ClassVar[frozenset[str]] = frozenset()
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.salt)

    def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
        chosen = self.rng.random(len(active)) < self.share
        away = self.rng.integers(1, len(view), np.count_nonzero(chosen))
        targets = (active.instance[chosen] + away) % len(view)
        return [Migration(int(i), int(j)) for i, j in zip(active.request_id[chosen], targets, strict=True)]


def spec(name: str, iteration_s: float = 0.01, layout: str = "constant", **profile: Any) -> InstanceSpec:
    """An instance whose iterations all take the same time."""
    made = constant_profile(iteration_s, **profile)
    return InstanceSpec(name, dataclasses.replace(made, layout=layout))


def inside(
    instances: tuple[InstanceSpec, ...],
    sessions: Iterator[Session],
    rectifier: Any,
    mechanism: Any,
    router: Any = "always_first",
    seed: int = 0,
    **scenario: Any,
) -> tuple[RunResult, _Run]:
    """Simulate, and keep the run to look into."""
    mechanism = build("mechanism", mechanism) if isinstance(mechanism, str) else mechanism
    built = Scenario(
        instances=instances,
        router=build("router", router) if isinstance(router, str) else router,
        predictor=build("predictor", "oracle"),
        estimator=build("estimator", "ema"),
        rectifier=rectifier,
        mechanism=mechanism,
        telemetry=scenario.pop("telemetry", TelemetryConfig()),
        **scenario,
    )
    run = _Run(built, sessions, Streams(seed), None, inf)
    return run.result(), run


def assert_sound(result: RunResult, run: _Run, n: int, *, may_fail: bool = False) -> None:
    """Invariants 1 to 4 on a run with migrations and faults."""
    r = result.requests
    # 1: every request ends exactly once.
    assert np.array_equal(r["request_id"], np.arange(n))
    finished = r["status"] == Status.FINISHED
    if not may_fail:
        assert finished.all(), f"statuses {r['status'].tolist()}"
    # 2: tokens are conserved, whatever moved.
    assert np.array_equal(r["generated_tokens"][finished], r["output_tokens"][finished])
    assert np.all(r["generated_tokens"] <= r["output_tokens"])
    assert np.all(r["recomputed_tokens"] >= 0)
    # 3: every block has returned.
    for instance in run.instances:
        ids, _ = instance.progress(run.clock.now)
        assert ids == []
        gauges = instance.gauges(run.clock.now + 1e6)
        assert (gauges.running, gauges.waiting, gauges.kv_usage) == (0, 0, 0.0)
    view = run.gateway.view
    assert not view.in_flight.any()
    assert not view.in_flight_prefill_tokens.any()
    assert not run.gateway.active
    # 4: causes come before their effects.
    assert np.all(r["first_token_s"][finished] > r["arrival_s"][finished])
    assert np.all(r["finished_s"][finished] >= r["first_token_s"][finished])
    m = result.moves
    for early, late in (("decided_s", "stopped_s"), ("stopped_s", "submitted_s"), ("submitted_s", "next_token_s")):
        both = ~np.isnan(m[early]) & ~np.isnan(m[late])
        assert np.all(m[early][both] <= m[late][both])
    moved = m["outcome"] == Outcome.MOVED
    assert np.array_equal(np.isfinite(m["submitted_s"]), moved)
    assert result.counters["migrations"] == np.count_nonzero(moved) == r["migrations"].sum()
    assert not np.any(m["outcome"] == Outcome.UNDER_WAY)
    outcomes = ("migrations", "moves_refused", "moves_given_up", "moves_ended", "moves_fell_back")
    assert sum(result.counters[name] for name in outcomes) == len(moved)
