"""An upper bound of goodput: no router, rectifier or plan can make more requests good on this pool."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gsim.core import ConfigError, Job
from gsim.optimum.demand import Demand, demand
from gsim.optimum.model import Kind, Model, kinds
from gsim.optimum.server import Server
from gsim.optimum.solver import Answer, Limits, solve
from gsim.optimum.work import eligible

#: What a solver's arithmetic may be off by when it proves a whole number of requests.
_SOLVER_TOLERANCE = 1e-4


@dataclass(frozen=True)
class BoundConfig:
    """How hard the bound is searched for. Every setting gives a valid bound; more effort gives a tighter one."""

    time_limit_s: float = 240.0
    """Wall seconds for all solver calls together. What is not done by then leaves the bound as far as it was proven."""
    gap: float = 0.005
    """Where the relaxation, rounded down, comes within this share of all jobs to its bound, nothing is branched on."""
    max_nodes: int | None = 2000
    """Nodes of the branch and bound (a limit that stops at the same place on every machine); None: no limit."""
    rounds: int = 40
    """Rounds of solving the relaxation and adding the windows that it overfills."""
    cuts_per_family: int = 4
    """Windows added per instance kind, kind of cut and round, at most."""
    grid: int = 600
    """Arrivals and deadlines at which windows may start and end, at most (thinned evenly beyond that)."""
    solver: str | None = None
    """``HiGHS`` or ``CBC``; None: HiGHS, where it is installed."""

    def __post_init__(self) -> None:
        if not self.time_limit_s > 0.0:
            raise ConfigError(f"bound.time_limit_s must be above 0, not {self.time_limit_s}")
        if not self.gap >= 0.0:
            raise ConfigError(f"bound.gap must be 0 or more, not {self.gap}")
        for name in ("rounds", "cuts_per_family", "grid"):
            if getattr(self, name) < 1:
                raise ConfigError(f"bound.{name} must be 1 or more, not {getattr(self, name)}")
        if self.max_nodes is not None and self.max_nodes < 1:
            raise ConfigError(f"bound.max_nodes must be 1 or more, not {self.max_nodes}")
        if self.solver not in (None, "HiGHS", "CBC"):
            raise ConfigError(f"bound.solver must be HiGHS or CBC, not '{self.solver}'")


@dataclass(frozen=True)
class Bound:
    """What was proven about the goodput of one set of jobs on one pool."""

    goodput_requests: int
    """At most this many requests can finish inside their SLO."""
    status: str
    """``optimal``: the integer program is solved; ``gap``: solved but for the configured gap; ``limit``: the best bound
    proven within the limits."""
    gap: float
    """Distance between the bound and the best solution found *of the relaxation's program*, as a share of all jobs."""
    lp_bound: float
    """Bound of the linear relaxation, before integrality."""
    jobs: int
    eligible: int
    """Jobs that some instance could finish in time if it had nothing else to do."""
    windowed: int
    """Of those, jobs whose arrival is known in advance: only they take part in windows."""
    cuts: int
    """Windows in the model."""
    solve_s: float
    """Wall seconds."""
    solver: str
    share: dict[int, dict[int, float]] = field(default_factory=dict, repr=False, compare=False)
    """Request id -> instance -> share of the request there in the program's best solution: where a plan may start."""

    @property
    def attainment(self) -> float:
        """The bound as a share of all jobs (0 for no jobs)."""
        return self.goodput_requests / self.jobs if self.jobs else 0.0


def upper_bound(
    jobs: Sequence[Job],
    pool: Sequence[Server],
    config: BoundConfig | None = None,
    *,
    max_moves: int = 0,
    since_s: float = 0.0,
) -> Bound:
    """How many of ``jobs`` any policy can make good on ``pool``, at most.

    ``max_moves``: how often a request may go on elsewhere with the tokens it has (migrations, and retries by token
    ids after a crash). The program is a relaxation of what the simulator's engines can do: each request is served by
    at most one instance (in free parts if it may move), only where it is eligible, and in every window of time the
    least work of the requests that arrive and are due in it fits into the window (see ``work`` for why each figure is
    the least). Windows hold for requests whose arrival is known in advance; a later turn of a closed loop arrives when
    the schedule lets it, so its deadline is no fixed time: it counts as served if it is eligible, and takes no room.

    ``since_s``: only jobs that arrive then or later are counted, as after a warm-up. (Jobs of unknown arrival always
    count. The others may still run and warm caches; they take no room, for nobody has to finish them.)

    Raises ``ConfigError`` for an empty pool, for jobs that are not valid, and for latency models without a proven
    floor. No jobs, or none that is eligible, is a bound of 0.
    """
    config = config or BoundConfig()
    if not pool:
        raise ConfigError("pool is empty; a bound needs at least one instance")
    if max_moves < 0:
        raise ConfigError(f"max_moves must be 0 or more, not {max_moves}")
    began = time.perf_counter()
    if not jobs:
        return Bound(0, "optimal", 0.0, 0.0, 0, 0, 0, 0, 0.0, "none")
    asked = demand(jobs)
    groups = kinds(asked, pool, max_moves)
    model = Model(asked, groups, max_moves, config.grid, since_s=since_s)
    loose = int((~asked.fixed & eligible(asked, [g.work for g in groups], max_moves).any(axis=1)).sum())
    if not len(model.rows):
        spent_s = time.perf_counter() - began
        return Bound(loose, "optimal", 0.0, float(loose), len(jobs), loose, 0, 0, spent_s, "none")
    proven, found, status, lp_bound, name = _search(model, config, began)
    return Bound(
        goodput_requests=loose + proven,
        status=status,
        gap=max(0.0, proven - found) / len(jobs),
        lp_bound=loose + lp_bound,
        jobs=int((~(asked.arrival_s < since_s)).sum()),
        eligible=loose + len(model.rows),
        windowed=len(model.rows),
        cuts=model.cuts,
        solve_s=time.perf_counter() - began,
        solver=name,
        share=_shares(asked, groups, model),
    )


def _search(model: Model, config: BoundConfig, began: float) -> tuple[int, float, str, float, str]:
    """Relax and cut, then branch: (proven, found, status, the relaxation's bound, solver)."""

    def left_s() -> float:
        return config.time_limit_s - (time.perf_counter() - began)

    lp_bound = float(len(model.rows))
    closed = False
    answer: Answer | None = None
    for _ in range(config.rounds):
        answer = solve(model.problem, Limits(max(0.1, left_s())), relaxed=True, use=config.solver)
        # A relaxation that was not solved to its end proves nothing; the last one that was, still does.
        if not answer.optimal:
            break
        lp_bound = min(lp_bound, answer.proven)
        closed = model.tighten(config.cuts_per_family) == 0
        if closed or left_s() <= 0.0:
            break
    assert answer is not None
    proven = _whole(lp_bound)
    # Every row is a packing row: leaving out what is not wholly served keeps a solution that breaks none.
    found = float(model.whole()) if closed else 0.0
    if closed and proven - found <= config.gap * len(model.rows):
        return proven, found, "optimal" if proven - found < 0.5 else "gap", lp_bound, answer.solver
    while left_s() > 0.0:
        answer = solve(model.problem, Limits(left_s(), config.max_nodes), use=config.solver)
        proven = min(proven, _whole(answer.proven))
        if answer.found == -math.inf:
            break
        # Windows that the solution overfills are still missing: it is no solution of the full program yet.
        if not model.tighten(config.cuts_per_family):
            found = max(found, answer.found)
            break
        if not answer.optimal:
            break
    status = "optimal" if proven - found < 0.5 else "limit"
    return proven, found, status, lp_bound, answer.solver


def _whole(value: float) -> int:
    return math.floor(value + _SOLVER_TOLERANCE) if math.isfinite(value) else 2**31


def _shares(asked: Demand, groups: list[Kind], model: Model) -> dict[int, dict[int, float]]:
    """Shares of requests by instance; a kind's share goes to its members in turn, in order of arrival."""
    shares: dict[int, dict[int, float]] = {}
    turn = [0] * len(groups)
    values = [decode for _, decode in model.values()]
    for r in np.argsort(model.arrival_s, kind="stable").tolist():
        request_id = int(asked.request_id[model.rows[r]])
        row: dict[int, float] = {}
        for k, group in enumerate(groups):
            if values[k][r] > 1e-6:
                row[group.members[turn[k] % len(group.members)]] = float(values[k][r])
                turn[k] += 1
        shares[request_id] = row
    return shares
