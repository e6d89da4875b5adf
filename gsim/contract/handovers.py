"""What every handover policy keeps to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gsim.contract.cases import busy_view, request, require, run, same_run
from gsim.core import ClusterView, Handover, PolicyView, Splitting, Verdict
from gsim.core.answers import instance_of, title
from gsim.gateway.policies import needs_of

Make = Callable[[], Handover]


def _decisions(handover: Handover, view: ClusterView, n: int = 20) -> list[int | Verdict]:
    """Where requests from instance 0 go on; the others are decode instances."""
    name = title("handover", handover)
    seen = PolicyView.on(view, name, needs_of("handover", handover))
    decided: list[int | Verdict] = []
    for k in range(n):
        seen.now_s = view.now_s
        answer: object = handover.next(request(k, arrival_s=view.now_s), 0, seen)
        decided.append(answer if isinstance(answer, Verdict) else instance_of(answer, len(view), name, k))
        view.now_s += 0.5
    return decided


def _pool(n: int, seed: int = 0) -> ClusterView:
    view = busy_view(n, seed)
    view.incoming[:] = np.arange(n) % 3
    view.incoming_tokens[:] = view.incoming * 500
    view.available[0] = False
    return view


def answers(make: Make) -> None:
    """It answers an instance that takes decode legs, HOLD or REJECT, on pools of 2 to 33."""
    for n in (2, 3, 8, 33):
        view = _pool(n, n)
        view.available[2::3] = False
        for decision in _decisions(make(), view):
            usable = isinstance(decision, Verdict) or view.available[decision]
            require(usable, f"it chose instance {decision}, which does not take decode legs")


def waits_for_an_instance(make: Make) -> None:
    """Where no instance takes decode legs at present it chooses none."""
    view = _pool(4)
    view.available[:] = False
    for decision in _decisions(make(), view, 3):
        require(isinstance(decision, Verdict), f"it chose instance {decision}, which does not take decode legs")


def repeats(make: Make) -> None:
    """The same requests and signals give the same instances, and the same splits."""
    once, again = (_decisions(make(), _pool(8)) for _ in range(2))
    require(once == again, f"it chose {once[:5]} once and {again[:5]} again")
    policy = make()
    if isinstance(policy, Splitting):
        seen = PolicyView.on(busy_view(4), title("handover", policy), needs_of("handover", policy))
        twice = [[policy.splits(request(k), k % 4, seen) for k in range(20)] for _ in range(2)]
        require(twice[0] == twice[1], "it splits the same requests once and not again")


def runs(make: Make) -> None:
    """A whole run with it ends, with every request finished or rejected, twice in the same way."""
    require(same_run(run(handover=make()), run(handover=make())), "two runs of the same seed differ")


CHECKS = (answers, waits_for_an_instance, repeats, runs)
