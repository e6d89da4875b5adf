"""The gateway: every request passes it. It asks the router, dispatches, observes, and keeps what a router may see."""

from __future__ import annotations

from collections.abc import Collection
from math import isnan, nan
from typing import Any, Final

from gsim.core import (
    HOLD,
    REJECT,
    ArrivalObserver,
    ClusterView,
    Completion,
    EngineEvent,
    EventKind,
    Job,
    Learner,
    Placed,
    PolicyView,
    Progress,
    SimulationError,
    Status,
)
from gsim.core.answers import instance_of, title
from gsim.core.view import flag_cells
from gsim.gateway.active import Active
from gsim.gateway.active_table import ActiveTable
from gsim.gateway.backend import Backend, MakeBackend
from gsim.gateway.clock import Clock
from gsim.gateway.ends import Ends
from gsim.gateway.held import HeldQueue
from gsim.gateway.legs import Legs
from gsim.gateway.local_signals import LocalSignals
from gsim.gateway.loops import Loops
from gsim.gateway.move_log import Move
from gsim.gateway.moving.drains import Drains
from gsim.gateway.moving.handovers import Carrier, Handovers
from gsim.gateway.policies import Policies, needs_of
from gsim.gateway.predictions import Predictions
from gsim.gateway.prefix_index import PrefixIndex
from gsim.gateway.records import Tally
from gsim.gateway.request_log import DecisionLog, RequestLog
from gsim.gateway.telemetry_config import TelemetryConfig

_COUNTED = (
    *("decisions", "dispatches", "refused_connections", "retries", "migrations"),
    *("moves_back", "moves_refused", "moves_given_up", "moves_ended", "moves_fell_back", "drained"),
    *("handovers", "handovers_repeated"),
)

# Skips the NamedTuple's Python-level constructor.
_new: Final = tuple.__new__

# Members of an enum are looked up slowly; these are compared at every event.
_FIRST_TOKEN: Final = EventKind.FIRST_TOKEN
_FINISHED: Final = EventKind.FINISHED
_PREEMPTED: Final = EventKind.PREEMPTED
_PREFILLED: Final = EventKind.PREFILLED


class Gateway:
    """Routes what arrives, and follows it to its end."""

    def __init__(
        self,
        clock: Clock,
        view: ClusterView,
        policies: Policies,
        make_backend: MakeBackend,
        ends: Ends,
        table: ActiveTable | None,
        telemetry: TelemetryConfig,
        max_hold_s: float,
        forecasts: Collection[str] = (),
        carrier: Carrier | None = None,
    ) -> None:
        """``carrier``: how requests are handed over, in a pool with roles."""
        self.clock = clock
        self.view = view
        self.legs = Legs(view, with_roles=carrier is not None)
        """Which instances are up, and which legs of a request they take."""
        self.log = RequestLog()
        self.active: dict[int, Active] = {}
        """Every request that has arrived and not ended, by id."""
        self.loops = Loops(clock, self.active)
        """What is done again and again while requests are in flight."""
        self.backends: list[Backend] = [make_backend(i, self._on_event) for i in range(len(view))]
        """The instances, in the view's order."""
        self.tallies = [Tally() for _ in self.backends]
        """What ended on each of them."""
        self.table = table
        """Rows for whoever follows the requests in flight (estimator, rectifier); None where nobody does."""
        self.counters = dict.fromkeys(_COUNTED, 0)
        self.decisions = DecisionLog() if telemetry.log_decisions else None
        self._on_end = ends.ended
        self._on_dispatch = ends.dispatched
        self.ended_s = 0.0
        self._available = flag_cells(self.legs.first)
        self._router: Any = policies.router
        self._router_title = title("router", policies.router)
        self._estimator = policies.estimator
        needs = policies.needs
        self._predictions = Predictions(policies.predictor, self.active)
        self._estimates = "estimates" in needs
        self._predicts = "prediction" in needs
        self._forecasts = len(forecasts) > 0
        self._spread = "quantiles" in forecasts
        self._signals = LocalSignals(view, self._predicts, "scrape" in needs and telemetry.in_flight_correction)
        self.drains = Drains(clock, view)
        """Instances that get nothing more and still serve."""
        deciding: list[object] = [policies.router, policies.rectifier, policies.scaler]
        self._learners: list[Learner] = [policy for policy in deciding if isinstance(policy, Learner)]
        self._placed: list[Placed] = [policy for policy in deciding if isinstance(policy, Placed)]
        self._arrivals: list[ArrivalObserver] = (
            [policies.scaler] if isinstance(policies.scaler, ArrivalObserver) else []
        )
        self._held = HeldQueue(clock, policies.router, max_hold_s, self._give_up)
        self.prefix_index: PrefixIndex | None = None
        if "prefix" in needs:
            capacity = view.static.kv_capacity_tokens
            self.prefix_index = PrefixIndex(capacity, telemetry.prefix_block_tokens, telemetry.prefix_capacity)
            view.prefix_tokens = self.prefix_index.match
        view.predict = self._predictions.of
        self._router_view = PolicyView.on(
            view, self._router_title, needs_of("router", policies.router), self.legs.first
        )
        self._handovers = Handovers(self, carrier, max_hold_s) if carrier is not None else None
        router: object = policies.router
        self._not_first = [policy for policy in self._placed if policy is not router]
        """Who is told where a request goes on: a router is told where it began."""

    @property
    def handed_over(self) -> list[Move]:
        """The handovers so far (see ``Handovers``)."""
        return [] if self._handovers is None else self._handovers.log

    @property
    def has_roles(self) -> bool:
        """Whether requests are handed over."""
        return self._handovers is not None

    # ------------------------------------------------------------------------------------------------- arrival
    def submit(self, job: Job) -> None:
        """A request arrives (its ``arrival_s`` is now)."""
        if self.loops.asleep:
            self.loops.wake()
        active = Active(job)
        request_id = active.request_id
        if request_id in self.active:
            raise SimulationError(f"request {request_id} arrives while a request of the same id is active")
        self.active[request_id] = active
        self._predictions.arrived(job)
        for policy in self._arrivals:
            policy.observe_arrival(job.request)
        self.place(active)

    def place(self, active: Active) -> None:
        """Ask the router where a request goes, and do it."""
        view = self._router_view
        self.view.now_s = view.now_s = now_s = self.clock.now
        request = active.job.request
        self.counters["decisions"] += 1
        decision: object = self._router.route(request, view)
        if self.decisions is not None:
            self.decisions.routed(active, decision, self.view)
        if decision is HOLD:
            self._held.add(active, view)
        elif decision is REJECT:
            self.end(active, Status.REJECTED, now_s)
        else:
            instance = instance_of(decision, len(self.backends), self._router_title, active.request_id)
            if self._available[instance]:
                if self._handovers is not None and not self._handovers.admits(active, instance):
                    self.end(active, Status.REJECTED, now_s)
                    return
                self.dispatch(active, instance)
            else:
                # The connection is refused: the request waits until something changes, as if the router held it.
                self.counters["refused_connections"] += 1
                self._held.add(active, view)

    def dispatch(self, active: Active, instance: int, kv_tokens: int = 0) -> None:
        """Send a request to an instance (``kv_tokens``: leading tokens whose KV is already there)."""
        now_s = self.clock.now
        job = active.job
        request = job.request
        handovers = self._handovers
        # Asked before anything is counted: by then the request itself would be among what the policy sees.
        splits = handovers is not None and not kv_tokens and handovers.splits(active, instance)
        first_time = isnan(active.dispatched_s)
        active.instance = instance
        active.dispatched_s = now_s
        active.carried_tokens = min(kv_tokens, active.prompt_tokens - 1)
        active.instance_first_token_s = nan
        if self._predicts:
            self._predictions.ask(active)
        self._signals.sent(active)
        if self._estimates:
            self._estimator.dispatched(instance, request, now_s)
        for policy in self._placed if handovers is None or not kv_tokens else self._not_first:
            policy.placed(request, instance)
        if self.prefix_index is not None and request.content:
            self.prefix_index.insert(request, instance)
        if self.table is not None:
            self.table.add(active, now_s)
        if self._forecasts:
            job = self._predictions.sent_along(active, spread=self._spread)
        self.counters["dispatches"] += 1
        if splits:
            assert handovers is not None
            handovers.begins(active)
            self.backends[instance].prefill(job, now_s, active)
        else:
            self.backends[instance].send(job, now_s, kv_tokens, active)
        if first_time:
            self._on_dispatch(job, now_s)

    # ----------------------------------------------------------------------------------------------- observation
    def _on_event(self, instance: int, event: EngineEvent) -> None:
        time_s, kind, request_id, generated_tokens, cached_tokens, active = event
        if type(active) is not Active or active.instance != instance:
            raise SimulationError(f"instance {instance} reports on request {request_id}, which is not there")
        if kind is _FIRST_TOKEN:
            self._first_token(active, time_s, cached_tokens, generated_tokens > 0)
        elif kind is _FINISHED:
            self._finished(active, time_s, generated_tokens)
        elif kind is _PREEMPTED:
            active.preemptions += 1
            self.tallies[instance].preemptions += 1
        elif kind is _PREFILLED:
            self._prefilled(active)
        else:
            self._signals.left(active)
            self.end(active, Status.REJECTED, time_s)

    def _first_token(self, active: Active, time_s: float, cached_tokens: int, seen: bool) -> None:
        """``seen``: it came by itself; an answer that comes whole says nothing of when its first token was there."""
        instance = active.instance
        active.instance_first_token_s = time_s
        active.prefilled(active.prompt_tokens, cached_tokens)
        active.lost_tokens = 0
        if seen and isnan(active.first_token_s):
            active.first_token_s = time_s
        move = active.move
        if move is not None:
            # What the target had cached was not computed again.
            move.next_token_s = time_s
            move.computed_tokens -= min(cached_tokens, move.computed_tokens)
            active.move = None
        self._signals.first_token(active)
        if self._estimates and seen:
            held_tokens = max(cached_tokens, active.carried_tokens)
            self._estimator.first_token(instance, active.job.request, active.dispatched_s, time_s, held_tokens)

    def _finished(self, active: Active, time_s: float, generated_tokens: int) -> None:
        instance = active.instance
        self._signals.left(active)
        if self._estimates or self._learners:
            first_token_s, request = active.instance_first_token_s, active.job.request
            cached = active.cached_tokens if self.backends[instance].tells_cached() else None
            sent_s = active.dispatched_s
            row = (request, instance, sent_s, first_token_s, time_s, generated_tokens, cached)
            completion = _new(Completion, row)
            if self._estimates:
                self._estimator.finished(completion)
            for policy in self._learners:
                policy.observe_completion(completion)
        active.generated_before += generated_tokens
        self._predictions.finished(active)
        self.end(active, Status.FINISHED, time_s)

    def _prefilled(self, active: Active) -> None:
        """A prefill leg is over: the request leaves its instance, where its KV cache stays for now."""
        source, tokens = active.instance, active.prompt_tokens
        self._resume(active, Progress(1, tokens))
        assert self._handovers is not None
        self._handovers.prefilled(active, source, tokens)

    # ---------------------------------------------------------------------------------------------------- moving
    def detach(self, active: Active) -> Progress | None:
        """Take a request from its instance, keeping what it has generated; None if it has ended by now.

        Afterwards the request is nowhere: the caller places it again (``dispatch`` or ``place``).
        """
        now_s = self.clock.now
        if active.instance >= 0:
            self.backends[active.instance].sync(now_s)
        if active.instance < 0:
            return None
        progress = self.backends[active.instance].abort(active.request_id, now_s)
        self._resume(active, progress)
        return progress

    def _resume(self, active: Active, progress: Progress) -> None:
        instance = active.instance
        self._signals.left(active)
        active.resume(progress)
        active.move = None
        if self.table is not None:
            self.table.detach(active)
        if self.drains.instances:
            self.drains.left(instance)

    def set_moving(self, active: Active, moving: bool) -> None:
        """A request is, or is not any more, under way to another instance: nobody else may move it meanwhile."""
        if self.table is not None:
            self.table.set_moving(active, moving)
        else:
            active.moving = moving

    def withdraw(self, active: Active) -> None:
        """Nobody waits for a request any more, or it cannot go on: it ends as failed, wherever it is."""
        self._held.drop(active)
        if active.instance >= 0:
            self.detach(active)
        if self.active.get(active.request_id) is active:
            self.end(active, Status.FAILED, self.clock.now)

    def holds(self, active: Active) -> bool:
        """Whether a request is held by the router, and will be asked for again."""
        return self._held.holds(active)

    def crash(self, instance: int, *, retry: bool) -> None:
        """An instance dies. What was on it is retried through the router by token ids, or fails."""
        now_s = self.clock.now
        self.backends[instance].sync(now_s)
        self.legs.set_up(instance, up=False)
        lost = [active for active in self.active.values() if active.instance == instance]
        for active in lost:
            self._resume(active, self.backends[instance].abort(active.request_id, now_s))
        self.backends[instance].forget(now_s)
        if self.prefix_index is not None:
            self.prefix_index.clear(instance)
        if self._handovers is not None:
            self._handovers.crashed(instance, retry=retry)
        for active in lost:
            self.set_moving(active, False)
            if retry:
                self.counters["retries"] += 1
                active.retries += 1
                self.place(active)
            else:
                self.end(active, Status.FAILED, now_s)

    def restart(self, instance: int) -> None:
        """A dead instance is back, empty, or a new one serves."""
        self.legs.set_up(instance, up=True)
        self.ask_held()

    @property
    def held(self) -> int:
        """How many requests wait here."""
        return self._held.waiting

    # ------------------------------------------------------------------------------------------------------- end
    def end(self, active: Active, status: Status, now_s: float) -> None:
        """The request ends, for good: its row is written."""
        origin = active.origin
        del self.active[active.request_id]
        if self.table is not None:
            self.table.remove(active)
        if now_s > self.ended_s:
            self.ended_s = now_s
        if active.instance >= 0:
            tally = self.tallies[active.instance]
            tally.requests += 1
            tally.generated_tokens += active.generated_before
        self.log.ended(active, status, now_s)
        if self.decisions is not None:
            self.decisions.ended(active, status, now_s)
        if self.drains.instances:
            self.drains.left(active.instance)
        active.instance = -1
        if self._handovers is not None:
            self._handovers.ended(active)
        self._on_end(origin, status, now_s)
        if self._held or self._handovers is not None:
            self.ask_held()

    def close(self) -> None:
        """The run is over, and every request has ended: so have the handovers that were still under way."""
        if self._handovers is not None:
            self._handovers.close()

    def cut(self, jobs: list[Job], now_s: float) -> None:
        """The run stops here: rows for what is still open, and for ``jobs``, which will not arrive any more."""
        for active in self.active.values():
            self.log.ended(active, Status.CUT, now_s)
        for job in jobs:
            self.log.ended(Active(job), Status.CUT, now_s)
        self.active.clear()
        self.ended_s = now_s

    def ask_held(self) -> None:
        """Something changed: ask the router again for the requests that it holds, until it holds one again."""
        if self._handovers is not None:
            self._handovers.ask()
        self._held.ask(self.place)

    def _give_up(self, active: Active) -> None:
        self.end(active, Status.REJECTED, self.clock.now)
