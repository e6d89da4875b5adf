"""The gateway over backends that are no engines: all of its bookkeeping, with a backend in plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from paced_backend import Paced

from gsim.cluster import TelemetryConfig
from gsim.core import ActiveRequests, ClusterView, Job, Migration, Request, StaticView, Status, Streams, build
from gsim.gateway.assemble import Assembly, Plant, assemble
from gsim.gateway.backend import Backend, Report
from gsim.gateway.clock import Clock
from gsim.gateway.ends import Ends
from gsim.gateway.policies import Policies
from gsim.migration import LinkConfig

N = 3


def view() -> ClusterView:
    ones = np.ones(N)
    return ClusterView.of(
        StaticView(
            gpu=("paced",) * N,
            model=("m",) * N,
            nominal_tpot_s=0.01 * ones,
            nominal_prefill_s_per_token=1e-4 * ones,
            nominal_tokens_per_s=100 * ones,
            kv_capacity_tokens=np.full(N, 100_000, dtype=np.int64),
            max_num_seqs=np.full(N, 64, dtype=np.int64),
            max_num_batched_tokens=np.full(N, 2048, dtype=np.int64),
            block_size=16,
            price_per_hour=ones,
            layout=("l",) * N,
            cards=np.ones(N, dtype=np.int64),
        )
    )


@dataclass
class MoveAll:
    """Moves every request on, once."""

    interval_s: float = 0.1
    needs: ClassVar[frozenset[str]] = frozenset()

    def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
        fresh = (active.moves == 0) & (active.generated_tokens > 0) & ~active.moving
        pairs = zip(active.request_id[fresh].tolist(), active.instance[fresh].tolist(), strict=True)
        return [Migration(request, (instance + 1) % N) for request, instance in pairs]


@dataclass
class World:
    """A gateway on paced backends, and what became of the requests."""

    policies: Policies
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    clock: Clock = field(default_factory=Clock)
    backends: list[Paced] = field(default_factory=list)
    ended: dict[int, tuple[Status, float]] = field(default_factory=dict)
    dispatched: list[int] = field(default_factory=list)

    def assembled(self) -> Assembly:
        def make(index: int, report: Report) -> Backend:
            self.backends.append(Paced(self.clock, index, report))
            return self.backends[-1]

        plant = Plant([1] * N, [10_000] * N, LinkConfig().resolve())
        ends = Ends(
            lambda job, now_s: self.dispatched.append(job.request.request_id),
            lambda job, status, now_s: self.ended.__setitem__(job.request.request_id, (status, now_s)),
        )
        return assemble(
            self.clock,
            view(),
            self.policies,
            make,
            plant,
            Streams(0),
            ends,
            telemetry=self.telemetry,
            scrape_interval_s=0.05,
        )


def policies(router: str = "round_robin", **more: Any) -> Policies:
    return Policies(build("router", router), build("predictor", "constant"), build("estimator", "ema"), **more)


def send(world: World, assembly: Assembly, n: int = 6) -> None:
    for i in range(n):
        job = Job(Request(i, 0.0, 10, 64, 10.0), 20 + i)
        world.clock.after(0.0, lambda job=job: assembly.gateway.submit(job))


@pytest.mark.parametrize("router", ["round_robin", "least_load", "goodserve", "cache_aware"])
def test_requests_are_followed_to_their_end(router):
    world = World(policies(router))
    assembly = world.assembled()
    send(world, assembly)
    world.clock.run_to(5.0)
    assert world.ended == {i: (Status.FINISHED, pytest.approx(0.01 * (20 + i))) for i in range(6)}
    assert sorted(world.dispatched) == list(range(6))
    assert not assembly.gateway.view.in_flight.any()
    assert sum(tally.requests for tally in assembly.gateway.tallies) == 6


def test_moves_carry_what_was_generated():
    world = World(policies(rectifier=MoveAll(), mechanism=build("mechanism", "token_ids")))
    assembly = world.assembled()
    send(world, assembly)
    world.clock.run_to(5.0)
    assert {status for status, _ in world.ended.values()} == {Status.FINISHED}
    rows = assembly.gateway.log.table.columns("request_id")
    assert rows["migrations"].tolist() == [1] * 6
    assert rows["generated_tokens"].tolist() == rows["output_tokens"].tolist() == [20 + i for i in range(6)]


def test_metrics_that_cannot_be_read_leave_the_view_as_it_was():
    world = World(policies("least_load"))
    assembly = world.assembled()
    world.backends[1].readable = False
    send(world, assembly)
    world.clock.run_to(0.12)
    assert assembly.gateway.view.scraped_s[[0, 2]].min() >= 0.1
    assert assembly.gateway.view.scraped_s[1] == -np.inf


def test_a_crash_sends_what_was_there_elsewhere():
    world = World(policies())
    assembly = world.assembled()
    send(world, assembly)
    world.clock.after(0.105, lambda: assembly.gateway.crash(0, retry=True))
    world.clock.run_to(5.0)
    assert {status for status, _ in world.ended.values()} == {Status.FINISHED}
    rows = assembly.gateway.log.table.columns("request_id")
    assert 0 not in rows["instance"].tolist()
    assert rows["generated_tokens"].tolist() == rows["output_tokens"].tolist()
