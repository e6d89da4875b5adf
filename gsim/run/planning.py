"""A plan with all knowledge, made before a run: what a cell whose router is ``ilp_plan`` replays."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from gsim.cluster import RunResult, Scenario, simulate
from gsim.core import ConfigError, Job, Status, Streams
from gsim.optimum import Assignment, EngineJudge, Plan, Server, plan
from gsim.optimum.ilp_plan import IlpPlan
from gsim.run.settings import Settings


def jobs_of(settings: Settings, seed: int) -> list[Job]:
    """All jobs of the run with this seed."""
    return [job for session in settings.sessions(seed) for job in session.jobs]


def servers_of(scenario: Scenario) -> list[Server]:
    """The pool as the integer program sees it. Faults only take capacity away, so a bound may leave them out.

    Raises ``ConfigError`` for a pool with roles: bound and plan take a request to be served where it is sent.
    """
    if scenario.has_roles:
        raise ConfigError(
            "pool.instances has roles: the upper bound and the plan know requests that one instance serves from their "
            "prompt to their end; leave bound=true and router=ilp_plan out, or let all instances be role=both"
        )
    return [Server.of(spec.name, spec.profile.latency, spec.limits) for spec in scenario.instances]


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
