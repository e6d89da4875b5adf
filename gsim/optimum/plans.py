"""A plan: an assignment made with all knowledge, replayed on the simulator's engines and improved by local search."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gsim.core import ConfigError, Job
from gsim.optimum.demand import demand
from gsim.optimum.judge import Assignment, Judge
from gsim.optimum.model import Model, kinds
from gsim.optimum.server import Server
from gsim.optimum.solver import Limits, solve
from gsim.optimum.work import eligible


@dataclass(frozen=True)
class PlanConfig:
    """How long a plan is worked on."""

    evaluations: int = 3000
    """Assignments judged in the local search, at most (a limit that stops at the same place on every machine)."""
    budget_s: float = 120.0
    """Wall seconds, at most."""
    fills: tuple[float, ...] = (1.0, 0.85, 0.7, 0.55, 0.4)
    """Shares of every window's room for which the program is solved and rounded: real engines waste some of it."""
    haste: float = 0.1
    """What a request is worth less where it alone would use up its whole SLO: of equal plans, the faster instances."""

    def __post_init__(self) -> None:
        if self.evaluations < 0:
            raise ConfigError(f"plan.evaluations must be 0 or more, not {self.evaluations}")
        if not self.budget_s > 0.0:
            raise ConfigError(f"plan.budget_s must be above 0, not {self.budget_s}")
        if not all(0.0 < fill <= 1.0 for fill in self.fills):
            raise ConfigError(f"plan.fills must be in (0, 1], not {self.fills}")
        if not 0.0 <= self.haste < 1.0:
            raise ConfigError(f"plan.haste must be in [0, 1), not {self.haste}")


@dataclass(frozen=True)
class Plan:
    """An assignment, and what the judge makes of it."""

    assignment: Mapping[int, int | None]
    """Request id -> instance; None: refuse it (it would miss, and only hinder others)."""
    good: frozenset[int]
    start: str
    """Which start was best (a router's name, or ``fill 0.85`` of the program)."""
    start_good: int
    """What that start was worth, before the local search."""
    evaluations: int
    spent_s: float
    starts: Mapping[str, int] = field(default_factory=dict)
    """What every start was worth."""


def plan(
    jobs: Sequence[Job],
    pool: Sequence[Server],
    judge: Judge,
    rng: np.random.Generator,
    starts: Mapping[str, Assignment] | None = None,
    config: PlanConfig | None = None,
) -> Plan:
    """The best assignment found: never worse, to the judge, than the best of ``starts``.

    Starts are the given ones (what routers did) and roundings of the program at several fills. The best one is
    improved: requests that miss are refused (they only hinder others), each refused one is tried on each instance,
    and then single moves and swaps are tried at random; what the judge finds no worse is kept. Raises ``ConfigError``
    for an empty pool and for assignments to instances that are not there.
    """
    config = config or PlanConfig()
    if not pool:
        raise ConfigError("pool is empty; a plan needs at least one instance")
    began = time.perf_counter()
    asked = demand(jobs)
    given = {name: _checked(name, start, len(pool)) for name, start in (starts or {}).items()}
    candidates = given | (_rounded(jobs, pool, config) if len(jobs) else {})
    if not candidates:
        return Plan({}, frozenset(), "nothing", 0, 0, time.perf_counter() - began)
    judged = {name: judge(candidate) for name, candidate in candidates.items()}
    start = max(judged, key=lambda name: len(judged[name]))
    allowed = eligible(asked, [group.work for group in kinds(asked, pool, 0)], 0) if len(jobs) else None
    search = _Search(dict(candidates[start]), judged[start], judge, rng, len(pool), config, began)
    if allowed is not None:
        hopeless = {int(i) for i in asked.request_id[~allowed.any(axis=1)]}
        search.run({int(i) for i in asked.request_id} - hopeless)
    return Plan(
        search.assignment,
        frozenset(search.good),
        start,
        len(judged[start]),
        search.evaluations + len(judged),
        time.perf_counter() - began,
        {name: len(good) for name, good in judged.items()},
    )


def _checked(name: str, start: Assignment, instances: int) -> dict[int, int | None]:
    for request_id, instance in start.items():
        if instance is not None and not 0 <= instance < instances:
            raise ConfigError(f"start '{name}': request {request_id} is on instance {instance} of {instances}")
    return dict(start)


def _rounded(jobs: Sequence[Job], pool: Sequence[Server], config: PlanConfig) -> dict[str, dict[int, int | None]]:
    """The program at several fills, each request where its largest share is; without a share it is refused."""
    asked = demand(jobs)
    groups = kinds(asked, pool, 0)
    found: dict[str, dict[int, int | None]] = {}
    for fill in config.fills:
        model = Model(asked, groups, 0, 400, fill=fill, haste=config.haste)
        if not len(model.rows):
            break
        for _ in range(15):
            solve(model.problem, Limits(config.budget_s / 10.0), relaxed=True)
            if not model.tighten(4):
                break
        assignment: dict[int, int | None] = {int(i): None for i in asked.request_id}
        load = [0] * len(pool)
        shares = np.stack([decode for _, decode in model.values()], axis=1)
        for r in np.argsort(model.arrival_s, kind="stable").tolist():
            kind = int(np.argmax(shares[r]))
            if shares[r, kind] > 1e-6:
                member = min(groups[kind].members, key=lambda index: (load[index], index))
                load[member] += int(asked.output_tokens[model.rows[r]])
                assignment[int(asked.request_id[model.rows[r]])] = member
        found[f"fill {fill:g}"] = assignment
    return found


class _Search:
    """Local search: changes that the judge finds no worse."""

    def __init__(
        self,
        assignment: dict[int, int | None],
        good: set[int],
        judge: Judge,
        rng: np.random.Generator,
        instances: int,
        config: PlanConfig,
        began: float,
    ) -> None:
        self.assignment, self.good = assignment, set(good)
        self.judge, self.rng, self.instances, self.config = judge, rng, instances, config
        self.evaluations = 0
        self._began = began

    def run(self, hopeful: set[int]) -> None:
        """Refuse and insert until that helps no more; then drift from there, until the budget is spent."""
        for request_id in hopeful:
            self.assignment.setdefault(request_id, None)
        before = -1
        while len(self.good) > before and not self._spent():
            before = len(self.good)
            self._refuse_misses()
            self._insert(hopeful)
        while self.good < hopeful and not self._spent():
            self._drift(hopeful)

    def _spent(self) -> bool:
        late = time.perf_counter() - self._began > self.config.budget_s
        return late or self.evaluations >= self.config.evaluations

    def _try(self, changes: Mapping[int, int | None], more: bool) -> bool:
        """Keep the changes if there are no fewer good requests (``more``: only if there are more)."""
        trial = {**self.assignment, **changes}
        self.evaluations += 1
        good = self.judge(trial)
        if len(good) < len(self.good) + (1 if more else 0):
            return False
        self.assignment, self.good = trial, set(good)
        return True

    def _refuse_misses(self) -> None:
        """A request that misses anyway leaves its place to others: all at once, or else one by one."""
        misses = [r for r, instance in self.assignment.items() if instance is not None and r not in self.good]
        if not misses or self._try(dict.fromkeys(misses), more=False):
            return
        for request_id in misses:
            if self._spent():
                return
            self._try({request_id: None}, more=False)

    def _insert(self, hopeful: set[int]) -> None:
        """Try every refused request on every instance."""
        for request_id in self._shuffled(hopeful - self.good):
            for instance in self.rng.permutation(self.instances).tolist():
                if self._spent():
                    return
                if self._try({request_id: instance}, more=True):
                    break

    def _drift(self, hopeful: set[int]) -> None:
        """One step from an assignment to another one that is no worse.

        Either a refused request takes the place of a good one, which goes elsewhere or is refused; or a good request
        moves. Then misses leave, so that the next step finds room.
        """
        kept = sorted(self.good)
        refused = sorted(hopeful - self.good)
        if not kept:
            self._insert(hopeful)
            return
        other = int(self.rng.choice(kept))
        home = self.assignment[other]
        away = int(self.rng.integers(self.instances + 1))
        goal = None if away == self.instances else away
        if self.rng.random() < 0.5:
            self._try({int(self.rng.choice(refused)): home, other: goal}, more=False)
        elif goal is not None and goal != home:
            self._try({other: goal}, more=False)
        self._refuse_misses()

    def _shuffled(self, request_ids: set[int]) -> list[int]:
        order: list[int] = self.rng.permutation(sorted(request_ids)).tolist()
        return order
