"""One run: sessions through a gateway onto a pool, until the last request has ended or the horizon is reached."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf, nan

import numpy as np

from gsim.cluster.arrivals import Arrivals
from gsim.cluster.faults import Faults
from gsim.cluster.guard import Guard
from gsim.cluster.horizon import Horizon
from gsim.cluster.instance import Instance
from gsim.cluster.result import InstanceSummary, RunResult
from gsim.cluster.scenario import InstanceSpec, Scenario
from gsim.core import ClusterView, Job, Population, Session, StaticView, Status, Streams
from gsim.core.answers import failure_of
from gsim.core.errors import ConfigError, SimulationError
from gsim.gateway.active import Active
from gsim.gateway.assemble import Plant, assemble
from gsim.gateway.backend import Backend, MakeBackend, Report
from gsim.gateway.clock import Clock
from gsim.gateway.ends import Ends
from gsim.gateway.move_log import move_columns
from gsim.gateway.records import Tally
from gsim.latency.power import power
from gsim.migration import LinkConfig

#: Requests that end between two collections of reference cycles.
_COLLECT_EVERY = 1 << 19


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Python's cycle collector would walk all requests in flight again and again, a fifth of a run's time.

    Requests are freed by their reference counts; what a policy may leave in cycles is collected now and then.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def simulate(
    scenario: Scenario,
    sessions: Iterator[Session] | Population,
    seed: int,
    horizon: Horizon | None = None,
    limit_s: float = inf,
    watch: Callable[[Clock], None] | None = None,
) -> RunResult:
    """Run ``sessions`` through ``scenario`` to the end of the last request, or to the ``horizon``.

    A population of agents goes on for ever, so it needs a horizon. A run that is stopped leaves a row for every request
    that had arrived, and for every request of the sessions that it waited for: those that had not ended are ``CUT``.
    The policies of a scenario keep what they learn, so a scenario is for one run. Equal scenario, sessions and seed
    give equal results, bit by bit. Raises ``TraceError`` for a session that could never end, and ``SimulationError``
    where a policy fails or breaks its contract (it says which one, and how), and where a run cannot go on or is still
    going on at ``limit_s`` (it says who waits for what). ``watch`` is handed the run's clock before it starts.
    """
    if horizon is None and isinstance(sessions, Population):
        raise ConfigError("a population of agents goes on for ever: say when the run stops (until_s)")
    with _collector_paused():
        try:
            prepared = _Run(scenario, sessions, Streams(seed), horizon, limit_s)
            if watch is not None:
                watch(prepared.clock)
            return prepared.result()
        except (Exception, SystemExit) as error:
            told = failure_of(error, scenario.policies.by_group)
            if told is None:
                raise
            raise told from error


class _Run:
    def __init__(
        self,
        scenario: Scenario,
        sessions: Iterator[Session] | Population,
        streams: Streams,
        horizon: Horizon | None,
        limit_s: float,
    ) -> None:
        self.clock = clock = Clock()
        self.scenario = scenario
        self.streams = streams
        self.horizon = horizon
        self.instances: list[Instance] = []
        self._over = False
        specs = scenario.instances
        self.parts = parts = assemble(
            clock,
            ClusterView.of(static_view(specs)),
            scenario.policies,
            self._instances_of(specs),
            self._plant(scenario),
            streams,
            Ends(self._dispatched, self._ended),
            telemetry=scenario.telemetry,
            scrape_interval_s=scenario.scrape_interval_s,
            scrapes_for_reviews_only=not scenario.routes_by_gauges and scenario.faults is None,
            max_hold_s=scenario.max_hold_s,
            forecasts=scenario.forecasts,
        )
        self.gateway = parts.gateway
        self.arrivals = Arrivals(clock, sessions, self.gateway.submit, self._refuse, self._check_done, horizon)
        self.faults: Faults | None = None
        if scenario.faults is not None and scenario.faults.active:
            rng = streams.stream("faults")
            self.faults = Faults(
                scenario.faults,
                clock,
                self.gateway,
                self.instances,
                parts.scraper,
                rng,
                parts.moves,
                parts.network,
                parts.fleet,
            )
            self.faults.start()
        self.arrivals.start()
        Guard(clock, self.gateway, self.arrivals, limit_s).start()
        if horizon is not None:
            clock.after(horizon.until_s, lambda: self._check_done())
            clock.after(horizon.end_s, lambda: self._stop())

    def _instances_of(self, specs: Sequence[InstanceSpec]) -> MakeBackend:
        """What makes the pool's instances, and keeps them here too."""

        def make(index: int, report: Report) -> Backend:
            instance = Instance(self.clock, index, specs[index], report, self.streams)
            self.instances.append(instance)
            return instance

        return make

    def _plant(self, scenario: Scenario) -> Plant:
        """What moves and scaling must know of the pool."""
        specs = scenario.instances
        limits = [spec.limits for spec in specs]
        return Plant(
            kv_bytes_per_token=[spec.profile.deployment.kv_bytes_per_token for spec in specs],
            longest_tokens=[min(limit.max_model_len, limit.kv_blocks * limit.block_size) for limit in limits],
            link=(scenario.link or LinkConfig()).resolve(),
            up=[spec.up for spec in specs] if scenario.has_slots else None,
            boot_s=self._boot_s,
            drains_move=scenario.slots.drain == "move",
            layers=[spec.profile.model.layers for spec in specs],
        )

    def _boot_s(self, slot: int) -> float:
        """How long an instance takes that starts in this slot now."""
        specs, fleet = self.scenario.instances, self.parts.fleet
        profile = specs[slot].profile
        model = profile.model.name
        peers = (i for i, spec in enumerate(specs) if i != slot and spec.profile.model.name == model)
        up = fleet is not None and any(fleet.is_up(i) for i in peers)
        return self.scenario.slots.boot_s(profile, up)

    def _stop(self) -> None:
        if not self._over:
            self._over = True
            # What is due at this very instant happens yet.
            self.clock.after(0.0, self.clock.stop)

    def _refuse(self, job: Job, now_s: float) -> None:
        """A job that will never be sent: its row is written as failed."""
        active = Active(job)
        self.gateway.active[job.request.request_id] = active
        self.gateway.end(active, Status.FAILED, now_s)

    def _dispatched(self, job: Job, now_s: float) -> None:
        self.arrivals.dispatched(job, now_s)

    def _ended(self, job: Job, status: Status, now_s: float) -> None:
        self.arrivals.ended(job, status, now_s)
        if len(self.gateway.log) % _COLLECT_EVERY == 0:
            gc.collect()
        self._check_done()

    def _check_done(self) -> None:
        arrivals = self.arrivals
        if arrivals.finished and not arrivals.waiting and not self.gateway.active:
            self._stop()
        horizon = self.horizon
        if horizon is not None and not arrivals.awaited and self.clock.now >= horizon.until_s:
            self._stop()

    def _cut(self) -> None:
        """The horizon is reached: rows for what is still open."""
        ended = self.gateway.log.table.columns("request_id")["request_id"]
        known = {*ended.tolist(), *self.gateway.active}
        jobs = [job for session in self.arrivals.cut() for job in session.jobs]
        never = [job._replace(request=job.request._replace(arrival_s=nan)) for job in jobs]
        self.gateway.cut([job for job in never if job.request.request_id not in known], self.clock.now)

    def result(self) -> RunResult:
        """Run, and gather what the run leaves."""
        self.clock.run()
        gateway, parts = self.gateway, self.parts
        if parts.moves is not None:
            parts.moves.close()
        self.gateway.close()
        if self.horizon is not None:
            self._cut()
        if gateway.active:
            raise SimulationError(f"the run ended with {len(gateway.active)} requests still active")
        end_s = gateway.ended_s
        counters = dict(gateway.counters, wakeups=sum(instance.wakeups for instance in self.instances))
        counters["scrapes"] = parts.scraper.scrapes
        if parts.monitor is not None:
            counters["reviews"] = parts.monitor.reviews
        if self.faults is not None:
            counters.update(self.faults.counts)
        if parts.autoscaler is not None:
            counters["scaler_reviews"] = parts.autoscaler.reviews
            counters["scalings"] = parts.autoscaler.scalings
        return RunResult(
            requests=gateway.log.table.columns("request_id"),
            tasks=tuple(gateway.log.tasks),
            sessions=self.arrivals.log.columns("session_id"),
            instances=tuple(
                self._summary(instance, tally, end_s)
                for instance, tally in zip(self.instances, gateway.tallies, strict=True)
            ),
            duration_s=end_s,
            samples=parts.sampler.columns() if parts.sampler is not None else {},
            moves=move_columns(parts.moves.log) if parts.moves is not None else {},
            handovers=move_columns(gateway.handed_over) if gateway.has_roles else {},
            decisions=gateway.decisions.rows if gateway.decisions is not None else [],
            counters=counters,
            slots=parts.fleet.columns() if parts.fleet is not None else {},
        )

    def _summary(self, instance: Instance, tally: Tally, end_s: float) -> InstanceSummary:
        profile, fleet = instance.spec.profile, self.parts.fleet
        cards, drawn = profile.deployment.cards, power(profile.gpu)
        return InstanceSummary(
            name=instance.spec.name,
            gpu=profile.gpu,
            requests=tally.requests,
            generated_tokens=tally.generated_tokens,
            busy_s=instance.busy_s(end_s),
            preemptions=tally.preemptions,
            power_s=instance.power_s(end_s),
            paid_s=end_s if fleet is None else fleet.paid_s(instance.index, end_s),
            starts=0 if fleet is None else fleet.starts(instance.index),
            cards=cards,
            usd_per_hour=profile.price_per_hour,
            idle_w=nan if drawn is None else cards * drawn.idle_w,
            busy_w=nan if drawn is None else cards * drawn.busy_w,
            counts=instance.counts(),
        )


def static_view(instances: tuple[InstanceSpec, ...]) -> StaticView:
    """What is known of a pool before anything runs on it."""
    profiles = [spec.profile for spec in instances]
    limits = [spec.limits for spec in instances]
    return StaticView(
        gpu=tuple(profile.gpu for profile in profiles),
        model=tuple(profile.model.name for profile in profiles),
        nominal_tpot_s=np.array([profile.nominal_tpot_s for profile in profiles]),
        nominal_prefill_s_per_token=np.array([profile.nominal_prefill_s_per_token for profile in profiles]),
        nominal_tokens_per_s=np.array([profile.nominal_tokens_per_s for profile in profiles]),
        kv_capacity_tokens=np.array([limit.kv_blocks * limit.block_size for limit in limits], dtype=np.int64),
        max_num_seqs=np.array([limit.max_num_seqs for limit in limits], dtype=np.int64),
        max_num_batched_tokens=np.array([limit.max_num_batched_tokens for limit in limits], dtype=np.int64),
        block_size=limits[0].block_size,
        price_per_hour=np.array([profile.price_per_hour for profile in profiles]),
        layout=tuple(profile.layout for profile in profiles),
        cards=np.array([profile.deployment.cards for profile in profiles], dtype=np.int64),
        role=tuple(spec.role for spec in instances),
    )
