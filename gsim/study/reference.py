"""What could have been: the upper bound of a run's goodput, and a plan with all knowledge, beside what routers did.

A cell whose router is ``ilp_plan`` is a plan; ``with_bound`` adds the bound and every policy's regret to the metrics.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from gsim.cluster import RunResult, Scenario, simulate
from gsim.core import ConfigError, GsimError, Job, Status, Streams
from gsim.optimum import Assignment, Bound, BoundConfig, EngineJudge, Plan, Server, plan, upper_bound
from gsim.optimum.ilp_plan import IlpPlan
from gsim.run.settings import Settings
from gsim.study.results import CellResult, by_point

#: More moves than any request makes: where the number of retries is not known, every token may come from elsewhere.
_ANY_NUMBER = 1 << 20


def jobs_of(settings: Settings, seed: int) -> list[Job]:
    """All jobs of the run with this seed."""
    return [job for session in settings.sessions(seed) for job in session.jobs]


def servers_of(scenario: Scenario) -> list[Server]:
    """The pool as the integer program sees it. Faults only take capacity away, so a bound may leave them out."""
    return [Server.of(spec.name, spec.profile.latency, spec.limits) for spec in scenario.instances]


def most_moves(scenario: Scenario) -> int:
    """How often a request of this scenario may go on elsewhere with the tokens it has."""
    moves = 0
    if scenario.rectifier is not None and scenario.rectifier.interval_s < float("inf"):
        moves = int(getattr(scenario.rectifier, "max_moves", _ANY_NUMBER))
    faults = scenario.faults
    if faults is not None and faults.active and faults.on_crash == "retry":
        crashes = faults.crash_every_s is not None or any(fault.kind == "crash" for fault in faults.planned)
        moves = _ANY_NUMBER if crashes else moves
    return moves


def bound_of(settings: Settings, seed: int, config: BoundConfig | None = None) -> Bound:
    """The upper bound of one run: no router with this configuration's rectifier and faults makes more requests good."""
    scenario = settings.scenario()
    # Requests that arrive after the counted window only take room: leaving them out is a relaxation. (A later turn's
    # arrival depends on the schedule, so it stays.)
    jobs = [job for job in jobs_of(settings, seed) if job.after or job.request.arrival_s <= settings.end_s]
    return upper_bound(
        jobs,
        servers_of(scenario),
        config,
        max_moves=most_moves(scenario),
        since_s=settings.warmup_s,
    )


def assignment_of(result: RunResult) -> dict[int, int | None]:
    """Where each request of a run was in the end (None: nowhere)."""
    columns = result.requests
    placed = (columns["instance"] >= 0) & (columns["status"] == Status.FINISHED)
    where = np.where(placed, columns["instance"], -1).tolist()
    return {request_id: (at if at >= 0 else None) for request_id, at in zip(columns["request_id"].tolist(), where)}


def plan_of(settings: Settings, seed: int) -> Plan:
    """The plan of one run, made with the fields of ``router=ilp_plan`` (its defaults, where another router is chosen).

    Routers that the search starts from run with this configuration's predictor and estimator, without migration.
    """
    choice = settings.choices["router"]
    planned = choice.build() if choice.name == "ilp_plan" else IlpPlan()
    still = settings.replace(rectifier={"name": "none"})
    starts: dict[str, Assignment] = {}
    for name in planned.starts:
        if name == "ilp_plan":
            raise ConfigError("router.starts: a plan cannot start from itself; name routers that decide online")
        online = still.replace(router={"name": name})
        starts[name] = assignment_of(simulate(online.scenario(), online.sessions(seed), seed))
    scenario = still.scenario()
    jobs = jobs_of(still, seed)
    rng = Streams(seed).stream("plan")
    return plan(jobs, servers_of(scenario), _judge(still, seed, scenario, jobs), rng, starts, planned.config)


def _judge(settings: Settings, seed: int, scenario: Scenario, jobs: list[Job]) -> Any:
    """The fast judge where instances do not affect one another, else the simulator itself."""
    plain = scenario.faults is None and not settings.goodput
    if plain and not any(job.after for job in jobs):
        instances = [(spec.profile.latency, spec.limits) for spec in scenario.instances]
        return EngineJudge(jobs, instances, engine=scenario.instances[0].engine.name)
    replayed = settings.replace(router={"name": "ilp_plan"})

    def judge(assignment: Assignment) -> set[int]:
        trial = replayed.scenario()
        cast(IlpPlan, trial.router).assign(assignment)
        columns = simulate(trial, replayed.sessions(seed), seed).requests
        return set(columns["request_id"][replayed.objective.met(columns)].tolist())

    return judge


def prepare(scenario: Scenario, settings: Settings, seed: int) -> Scenario:
    """Hand a router that replays a plan its plan; other scenarios are returned as they are."""
    if isinstance(scenario.router, IlpPlan):
        scenario.router.assign(plan_of(settings, seed).assignment)
    return scenario


def with_bound(
    results: Sequence[CellResult], folder: Path | None = None, config: BoundConfig | None = None
) -> list[CellResult]:
    """The same cells with more metrics: ``upper_bound``, ``plan``, ``regret_to_bound``, ``regret_to_plan``.

    All in requests per second of arrival time, as ``goodput_rps``; ``plan`` is the goodput of the cell of the same grid
    point whose router is ``ilp_plan`` (NaN where there is none). Bounds are kept in ``folder`` by content. Raises
    ``GsimError`` for a run that scores above its bound: then one of the two is wrong.
    """
    found: dict[int, CellResult] = {}
    bounds = _Bounds(folder, config or BoundConfig())
    for group in by_point(results):
        planned = next((result for result in group if result.cell.value("router") == "ilp_plan"), None)
        for result in group:
            summaries = tuple(_extended(result, i, seed, planned, bounds) for i, seed in enumerate(result.cell.seeds))
            found[id(result)] = dataclasses.replace(result, summaries=summaries)
    return [found[id(result)] for result in results]


@dataclasses.dataclass
class _Bounds:
    """Bounds by content: equal pools, traces, SLOs and moves share one, whatever the router."""

    folder: Path | None
    config: BoundConfig
    known: dict[str, int] = dataclasses.field(default_factory=dict)

    def requests(self, settings: Settings, seed: int) -> int:
        """The bound of one run, computed where it is neither known nor on disk."""
        plain = settings.plain()
        asked = {name: plain[name] for name in ("pool", "trace", "slo", "engine", "dynamics", "warmup_s", "until_s")}
        moves = most_moves(settings.scenario())
        text = json.dumps([asked, moves, seed, dataclasses.asdict(self.config)], sort_keys=True, default=str)
        key = hashlib.sha256(text.encode()).hexdigest()[:20]
        if key not in self.known:
            self.known[key] = self._read(key) or self._computed(key, settings, seed)
        return self.known[key]

    def _read(self, key: str) -> int:
        if self.folder is None or not (self.folder / f"bound-{key}.json").exists():
            return 0
        return int(json.loads((self.folder / f"bound-{key}.json").read_text())["goodput_requests"])

    def _computed(self, key: str, settings: Settings, seed: int) -> int:
        bound = bound_of(settings, seed, self.config)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            kept = {name: value for name, value in dataclasses.asdict(bound).items() if name != "share"}
            (self.folder / f"bound-{key}.json").write_text(json.dumps(kept, indent=1) + "\n")
        return bound.goodput_requests


def _extended(result: CellResult, i: int, seed: int, planned: CellResult | None, bounds: _Bounds) -> dict[str, Any]:
    metrics = dict(result.summaries[i]["metrics"])
    most = bounds.requests(result.cell.settings, seed)
    if metrics["good"] > most:
        raise GsimError(f"{result.label}, seed {seed}: {metrics['good']} good requests are above the bound of {most}")
    per_s = metrics["offered_rps"] / metrics["requests"] if metrics["requests"] else 0.0
    metrics["upper_bound"] = most * per_s
    metrics["regret_to_bound"] = metrics["upper_bound"] - metrics["goodput_rps"]
    if planned is not None and seed in planned.cell.seeds:
        metrics["plan"] = planned.summaries[planned.cell.seeds.index(seed)]["metrics"]["good"] * per_s
        metrics["regret_to_plan"] = metrics["plan"] - metrics["goodput_rps"]
    return {**result.summaries[i], "metrics": metrics}
