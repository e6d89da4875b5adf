"""What a policy of an engine planned, checked: an answer that cannot be meant ends the run and says whose it was."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from gsim.core.errors import SimulationError
from gsim.core.scheduling import IterationPlanner, Plan


def plan_of(answer: object, policy: str, running: Collection[int], waiting: Collection[int]) -> Plan:
    """An answer as a plan for these requests (by id); ``SimulationError`` else."""
    if not isinstance(answer, Plan):
        raise SimulationError(f"{policy} answered {str(answer)[:60]} ({type(answer).__name__}); allowed: a Plan")
    for name, ids, known in (
        ("order", answer.order, waiting),
        ("preempt", answer.preempt, running),
        ("rotate", answer.rotate, running),
        ("pause", answer.pause, running),
    ):
        _require_known(f"{policy} names", name, ids, known, "running" if known is running else "waiting")
    twice = set(answer.preempt) & set(answer.rotate)
    if twice:
        raise SimulationError(f"{policy} both preempts and rotates request {min(twice)}; allowed: one of them")
    if not 0.0 < answer.speed <= 1.0:
        raise SimulationError(f"{policy} plans speed = {answer.speed}; allowed: above 0, at most 1")
    if not 0.0 <= answer.power <= 1.0:
        raise SimulationError(f"{policy} plans power = {answer.power}; allowed: 0 to 1")
    if answer.max_running is not None and answer.max_running < 1:
        raise SimulationError(f"{policy} plans max_running = {answer.max_running}; allowed: 1 or more, or None")
    if not 0.0 <= answer.host_s_per_token < float("inf"):
        raise SimulationError(f"{policy} plans host_s_per_token = {answer.host_s_per_token}; allowed: 0 or more")
    # Who leaves the card does not pause on it.
    gone = {*answer.preempt, *answer.rotate}
    return answer._replace(pause=tuple([i for i in answer.pause if i not in gone])) if gone else answer


def iterations_of(planner: IterationPlanner, policy: str) -> int:
    """How many iterations a plan is for."""
    every: object = planner.every_iterations
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise SimulationError(f"{policy} has every_iterations = {every!r}; allowed: a whole number, 1 or more")
    return every


def _require_known(said: str, field: str, ids: Iterable[int], known: Collection[int], where: str) -> None:
    listed = list(ids)
    for request_id in listed:
        if request_id not in known:
            raise SimulationError(f"{said} request {request_id} in {field}; allowed: requests that are {where} here")
    if len(set(listed)) < len(listed):
        raise SimulationError(f"{said} a request twice in {field}; allowed: each once")
