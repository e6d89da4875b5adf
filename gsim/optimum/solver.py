"""PuLP models, HiGHS solves, CBC where HiGHS is not there. Only what a solver has *proven* leaves this module."""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass

import pulp

from gsim.core import SimulationError
from gsim.core.native import no_stdout


@dataclass(frozen=True)
class Limits:
    """How long a solver may search. Nodes and iterations stop at the same place on every machine; seconds do not."""

    seconds: float = 120.0
    nodes: int | None = None
    threads: int = 1


@dataclass(frozen=True)
class Answer:
    """What one call of a solver has shown about a maximisation."""

    proven: float
    """No solution is better than this (``inf``: nothing was proven in time)."""
    found: float
    """The best solution's value (``-inf``: none was found)."""
    optimal: bool
    solver: str
    seconds: float


def solve(problem: pulp.LpProblem, limits: Limits, *, relaxed: bool = False, use: str | None = None) -> Answer:
    """Maximise; ``relaxed``: without integrality. Variables keep the best values. ``use`` names the solver."""
    began = time.perf_counter()
    there = _highs_is_there()
    name = use or ("HiGHS" if there else "CBC")
    answer = _highs(problem, limits, relaxed) if name == "HiGHS" else _cbc(problem, limits, relaxed)
    return Answer(*answer, solver=name, seconds=time.perf_counter() - began)


@functools.cache
def _highs_is_there() -> bool:
    """Whether HiGHS can be used. Its first object of a process writes a banner to stdout, whatever it is told."""
    if not pulp.HiGHS().available():
        return False
    with no_stdout():
        pulp.HiGHS(msg=False).createAndConfigureSolver(pulp.LpProblem())
    return True


def _highs(problem: pulp.LpProblem, limits: Limits, relaxed: bool) -> tuple[float, float, bool]:
    options: dict[str, float | int] = {"random_seed": 0}
    if limits.nodes is not None:
        options["mip_max_nodes"] = limits.nodes
    solver = pulp.HiGHS(
        msg=False, mip=not relaxed, timeLimit=max(0.1, limits.seconds), threads=limits.threads, gapRel=0.0, **options
    )
    status = problem.solve(solver)
    if status == pulp.LpStatusInfeasible:
        raise SimulationError("the bound's model has no solution, though assigning nothing is one")
    model = problem.solverModel
    info = model.getInfo()
    found = float(pulp.value(problem.objective) or 0.0) if info.primal_solution_status == 2 else -math.inf
    optimal = str(model.getModelStatus()) == "HighsModelStatus.kOptimal"
    if optimal and relaxed:
        return found, found, True
    proven = math.inf if relaxed else -float(info.mip_dual_bound)
    return (proven if math.isfinite(proven) else math.inf), found, optimal


def _cbc(problem: pulp.LpProblem, limits: Limits, relaxed: bool) -> tuple[float, float, bool]:
    # CBC does not hand its bound back through PuLP: only a finished search proves anything.
    options = [f"maxNodes {limits.nodes}"] if limits.nodes is not None else []
    problem.solve(
        pulp.PULP_CBC_CMD(
            msg=False, mip=not relaxed, timeLimit=max(1.0, limits.seconds), threads=limits.threads, options=options
        )
    )
    optimal = problem.status == pulp.LpStatusOptimal and problem.sol_status == pulp.LpSolutionOptimal
    found = float(pulp.value(problem.objective) or 0.0) if problem.sol_status in (1, 2) else -math.inf
    return (found if optimal else math.inf), found, optimal
