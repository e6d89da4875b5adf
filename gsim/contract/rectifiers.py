"""What every rectifier keeps to."""

from __future__ import annotations

from collections.abc import Callable

from gsim.contract.cases import active_requests, busy_view, require, run, same_run
from gsim.core import ActiveRequests, ClusterView, Migration, PolicyView, Rectifier
from gsim.core.answers import interval_of, migrations_of, title
from gsim.gateway.policies import needs_of

Make = Callable[[], Rectifier]


def _reviewed(rectifier: Rectifier, active: ActiveRequests, view: ClusterView) -> list[Migration]:
    name = title("rectifier", rectifier)
    seen = PolicyView.on(view, name, needs_of("rectifier", rectifier))
    seen.now_s = view.now_s
    answer: object = rectifier.review(active, seen)
    return migrations_of(answer, len(view), name)


def has_an_interval(make: Make) -> None:
    """The time between two of its reviews is above 0."""
    rectifier = make()
    interval_of(rectifier, title("rectifier", rectifier))


def moves_within_reason(make: Make) -> None:
    """It moves requests in flight that are not moving already, once a review at most, to others that are up."""
    for seed in range(4):
        view, active = busy_view(6, seed), active_requests(80, 6, seed)
        view.available[2] = False
        at = dict(zip(active.request_id.tolist(), active.instance.tolist(), strict=True))
        moving = set(active.request_id[active.moving].tolist())
        for request_id, target, _ in _reviewed(make(), active, view):
            require(request_id in at, f"it moves request {request_id}, which is not in flight")
            require(request_id not in moving, f"it moves request {request_id} twice at the same time")
            require(target != at[request_id], f"it moves request {request_id} to instance {target}, where it is")
            require(view.available[target], f"it moves request {request_id} to instance {target}, which is down")
            moving.add(request_id)


def leaves_nobody_alone(make: Make) -> None:
    """Where nobody is in flight nobody moves."""
    require(not _reviewed(make(), active_requests(0, 4), busy_view(4)), "it moves somebody")


def repeats(make: Make) -> None:
    """The same requests and signals give the same moves."""
    once, again = (_reviewed(make(), active_requests(80, 6), busy_view(6)) for _ in range(2))
    require(once == again, f"it moved {once[:3]} once and {again[:3]} again")


def runs(make: Make) -> None:
    """A whole run under it ends, with every request finished or rejected, twice in the same way."""
    require(same_run(run(rectifier=make()), run(rectifier=make())), "two runs of the same seed differ")


CHECKS = (has_an_interval, moves_within_reason, leaves_nobody_alone, repeats, runs)
