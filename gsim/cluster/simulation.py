"""One run: sessions through a gateway onto a pool, until the last request has ended or the horizon is reached."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import nan

import numpy as np
import simpy

from gsim.cluster.arrivals import Arrivals
from gsim.cluster.faults import Faults
from gsim.cluster.horizon import Horizon
from gsim.cluster.scenario import InstanceSpec, Scenario, needs_of
from gsim.core import ClusterView, Job, Population, Randomised, Session, StaticView, Status, Streams
from gsim.core.answers import failure_of
from gsim.core.errors import ConfigError, SimulationError
from gsim.gateway.active import Active
from gsim.gateway.active_table import ActiveTable
from gsim.gateway.clock import Clock
from gsim.gateway.gateway import Gateway
from gsim.gateway.links import LinkNetwork
from gsim.gateway.monitor import Monitor
from gsim.gateway.move_log import move_columns
from gsim.gateway.moves import Moves
from gsim.gateway.records import InstanceSummary, RunResult
from gsim.gateway.telemetry import Sampler, Scraper, StreamObserver
from gsim.migration import LinkConfig, MoveCosts

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
    scenario: Scenario, sessions: Iterator[Session] | Population, seed: int, horizon: Horizon | None = None
) -> RunResult:
    """Run ``sessions`` through ``scenario`` to the end of the last request, or to the ``horizon``.

    A population of agents goes on for ever, so it needs a horizon. A run that is stopped leaves a row for every request
    that had arrived, and for every request of the sessions that it waited for: those that had not ended are ``CUT``.
    The policies of a scenario keep what they learn, so a scenario is for one run. Equal scenario, sessions and seed
    give equal results, bit by bit. Raises ``SimulationError`` where a policy fails or breaks its contract; it says
    which one, and how.
    """
    if horizon is None and isinstance(sessions, Population):
        raise ConfigError("a population of agents goes on for ever: say when the run stops (until_s)")
    with _collector_paused():
        try:
            return _Run(scenario, sessions, Streams(seed), horizon).result()
        except (Exception, SystemExit) as error:
            told = failure_of(error, scenario.policies)
            if told is None:
                raise
            raise told from error


class _Run:
    def __init__(
        self, scenario: Scenario, sessions: Iterator[Session] | Population, streams: Streams, horizon: Horizon | None
    ) -> None:
        self.env = env = Clock()
        self.horizon = horizon
        self.scenario = scenario
        self.view = ClusterView.of(static_view(scenario.instances))
        self.gateway = gateway = Gateway(env, scenario, self.view)
        self.arrivals = Arrivals(env, sessions, gateway.submit, self._refuse, horizon)
        self.done = env.event()
        gateway.on_end = self._ended
        gateway.on_dispatch = self.arrivals.dispatched
        for name, policy in scenario.policies.items():
            if isinstance(policy, Randomised):
                policy.seed(streams.stream(name))
        scenario.estimator.attach(self.view)
        self._streams = streams
        self._start_processes()

    def _start_processes(self) -> None:
        env, scenario, gateway = self.env, self.scenario, self.gateway
        telemetry = scenario.telemetry
        needs = scenario.needs
        # At equal times what was scheduled first happens first: at time 0, the order below.
        self.scraper = Scraper(gateway, scenario.scrape_interval_s)
        if "scrape" in needs:
            env.process(self.scraper.run())
        if "estimates" in needs or self.scenario.reviews:
            gateway.table = ActiveTable()
        if "estimates" in needs:
            env.process(StreamObserver(gateway, scenario.estimator, telemetry.stream_interval_s).run())
        self.sampler = None
        if telemetry.sample_interval_s is not None:
            self.sampler = Sampler(gateway, telemetry.sample_interval_s)
            env.process(self.sampler.run())
        self._start_rectifier()
        self._start_faults()
        self.arrivals.on_finished = self._check_done
        self.arrivals.start()
        if self.horizon is not None:
            self._at(self.horizon.until_s, self._check_done)
            self._at(self.horizon.end_s, self._stop)

    def _at(self, time_s: float, do: Callable[[], None]) -> None:
        timeout = simpy.Timeout(self.env, time_s)
        timeout.callbacks.append(lambda _event: do())

    def _stop(self) -> None:
        if not self.done.triggered:
            self.done.succeed()

    def _start_rectifier(self) -> None:
        """The monitor, and what carries its migrations out."""
        env, scenario, gateway = self.env, self.scenario, self.gateway
        self.moves: Moves | None = None
        self.network: LinkNetwork | None = None
        self.monitor: Monitor | None = None
        if not self.scenario.reviews:
            return
        assert scenario.mechanism is not None
        assert scenario.rectifier is not None
        link = (scenario.link or LinkConfig()).resolve()
        kv_bytes = [spec.profile.deployment.kv_bytes_per_token for spec in scenario.instances]
        MoveCosts(scenario.mechanism, link, np.array(kv_bytes, dtype=np.float64)).attach(self.view)
        self.network = LinkNetwork(env, link)
        self.moves = Moves(gateway, scenario.mechanism, self.network, kv_bytes)
        predictor = scenario.predictor if "prediction" in needs_of(scenario.rectifier) else None
        self.monitor = Monitor(gateway, scenario.rectifier, predictor, self.moves)
        env.process(self.monitor.run())
        if not scenario.routes_by_gauges and scenario.faults is None:
            monitor = self.monitor
            self.scraper.next_reader_s = lambda: monitor.next_review_s

    def _start_faults(self) -> None:
        self.faults: Faults | None = None
        config = self.scenario.faults
        if config is None or not config.active:
            return
        rng = self._streams.stream("faults")
        self.faults = Faults(config, self.gateway, self.scraper, rng, self.moves, self.network)
        self.faults.start()

    def _refuse(self, job: Job, now_s: float) -> None:
        """A job that will never be sent: its row is written as failed."""
        active = Active(job)
        self.gateway.active[job.request.request_id] = active
        self.gateway.end(active, Status.FAILED, now_s)

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
        if horizon is not None and not arrivals.awaited and self.env.now >= horizon.until_s:
            self._stop()

    def _cut(self) -> None:
        """The horizon is reached: rows for what is still open."""
        ended = self.gateway.log.table.columns("request_id")["request_id"]
        known = {*ended.tolist(), *self.gateway.active}
        jobs = [job for session in self.arrivals.cut() for job in session.jobs]
        never = [job._replace(request=job.request._replace(arrival_s=nan)) for job in jobs]
        self.gateway.cut([job for job in never if job.request.request_id not in known], self.env.now)

    def result(self) -> RunResult:
        """Run, and gather what the run leaves."""
        self.env.run(until=self.done)
        gateway = self.gateway
        if self.moves is not None:
            self.moves.close()
        if self.horizon is not None:
            self._cut()
        if gateway.active:
            raise SimulationError(f"the run ended with {len(gateway.active)} requests still active")
        end_s = gateway.ended_s
        counters = dict(gateway.counters, wakeups=sum(instance.wakeups for instance in gateway.instances))
        counters["scrapes"] = self.scraper.scrapes
        if self.monitor is not None:
            counters["reviews"] = self.monitor.reviews
        if self.faults is not None:
            counters.update(self.faults.counts)
        return RunResult(
            requests=gateway.log.table.columns("request_id"),
            tasks=tuple(gateway.log.tasks),
            sessions=self.arrivals.log.columns("session_id"),
            instances=tuple(
                InstanceSummary(
                    name=instance.spec.name,
                    gpu=instance.spec.profile.gpu,
                    requests=instance.ended,
                    generated_tokens=instance.generated_tokens,
                    busy_s=instance.busy_s(end_s),
                    preemptions=instance.preemptions,
                )
                for instance in gateway.instances
            ),
            duration_s=end_s,
            samples=self.sampler.columns() if self.sampler is not None else {},
            moves=move_columns(self.moves.log) if self.moves is not None else {},
            decisions=gateway.decisions.rows if gateway.decisions is not None else [],
            counters=counters,
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
    )
