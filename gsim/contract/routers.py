"""What every router keeps to."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from gsim.contract.cases import busy_view, idle_view, request, require, run, same_run
from gsim.core import ClusterView, Completion, Learner, Placed, PolicyView, QueueOrder, Router, Verdict
from gsim.core.answers import instance_of, key_of, title
from gsim.gateway.policies import needs_of

Make = Callable[[], Router]


def _seen(router: Router, view: ClusterView) -> PolicyView:
    return PolicyView.on(view, title("router", router), needs_of("router", router))


def _decisions(router: Router, view: ClusterView, n: int = 60) -> Iterator[int | Verdict]:
    """Route requests as a gateway would: place, count, and finish every third one."""
    seen, name = _seen(router, view), title("router", router)
    for k in range(n):
        one = request(k, arrival_s=view.now_s)
        seen.now_s = view.now_s
        answer: object = router.route(one, seen)
        if isinstance(answer, Verdict):
            yield answer
            continue
        decision = instance_of(answer, len(view), name, k)
        yield decision
        view.in_flight[decision] += 1
        view.in_flight_prefill_tokens[decision] += one.prompt_tokens
        if isinstance(router, Placed):
            router.placed(one, decision)
        if k % 3 == 0:
            view.in_flight[decision] -= 1
            view.in_flight_prefill_tokens[decision] -= one.prompt_tokens
            if isinstance(router, Learner):
                now = view.now_s
                router.observe_completion(Completion(one, decision, now, now + 0.1, now + 2.0, 100))
        view.now_s += 0.5


def answers(make: Make) -> None:
    """It answers an instance that is up, HOLD or REJECT, on pools of 1 to 33."""
    for n in (1, 2, 8, 33):
        view = busy_view(n)
        view.available[1::3] = False
        for decision in _decisions(make(), view):
            up = isinstance(decision, Verdict) or view.available[decision]
            require(up, f"it chose instance {decision}, which is down")


def serves_an_idle_pool(make: Make) -> None:
    """On an idle pool with time to spare it neither holds nor rejects."""
    router, view = make(), idle_view(4)
    seen = _seen(router, view)
    for k in range(8):
        decision = router.route(request(k, slo_s=1e3), seen)
        require(not isinstance(decision, Verdict), f"it answered {decision} for request {k}")


def answers_where_nobody_is_up(make: Make) -> None:
    """While every instance is down it answers all the same (one that is down refuses, and the request waits)."""
    router, view = make(), busy_view(4)
    view.available[:] = False
    answer: object = router.route(request(), _seen(router, view))
    if not isinstance(answer, Verdict):
        instance_of(answer, len(view), title("router", router), 0)


def survives_instances_that_come_and_go(make: Make) -> None:
    """It copes with instances that go down and come back, of which it is not told."""
    router, view = make(), busy_view(6)
    for down in (0, 3, 5):
        view.available[:] = True
        view.available[down] = False
        view.in_flight[down] = view.in_flight_prefill_tokens[down] = 0
        for decision in _decisions(router, view, 20):
            require(isinstance(decision, Verdict) or decision != down, f"it chose instance {decision}, which is down")


def repeats(make: Make) -> None:
    """The same seed and the same requests give the same decisions."""
    once, again = (list(_decisions(make(), busy_view(8))) for _ in range(2))
    first = next((k for k, (a, b) in enumerate(zip(once, again, strict=True)) if a != b), None)
    require(first is None, f"request {first} went to {once[first or 0]} once and to {again[first or 0]} again")


def reads_what_it_declares(make: Make) -> None:
    """It reads only the signals that it declares in needs, and writes none."""
    for seed in range(3):
        view = busy_view(6, seed)
        before = view.available.copy()
        list(_decisions(make(), view, 20))
        require(np.array_equal(view.available, before), "it wrote into the view")


def orders_its_queue(make: Make) -> None:
    """If it orders the requests that it holds, then by a number."""
    router, view = make(), busy_view(4)
    if isinstance(router, QueueOrder):
        key_of(router.queue_key(request(), _seen(router, view)), title("router", router), 0)


def runs(make: Make) -> None:
    """A whole run under it ends, with every request finished or rejected, twice in the same way."""
    require(same_run(run(router=make()), run(router=make())), "two runs of the same seed differ")


CHECKS = (
    answers,
    serves_an_idle_pool,
    answers_where_nobody_is_up,
    survives_instances_that_come_and_go,
    repeats,
    reads_what_it_declares,
    orders_its_queue,
    runs,
)
