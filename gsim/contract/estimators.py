"""What every estimator keeps to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gsim.contract.cases import idle_view, require, run, same_run
from gsim.core import ClusterView, Completion, Estimator, Request, build

Make = Callable[[], Estimator]


def _learned(view: ClusterView) -> dict[str, np.ndarray]:
    return {name: getattr(view, name) for name in ("queue_s", "prefill_s_per_token", "tpot_s")}


def starts_at_nominal_speed(make: Make) -> None:
    """Before anything has passed it says the nominal speeds and no queue."""
    view = idle_view(3)
    view.queue_s[:] = 99.0
    make().attach(view)
    static = view.static
    require((view.queue_s == 0).all(), f"queue_s is {view.queue_s.tolist()} on an idle pool")
    same = np.allclose(view.prefill_s_per_token, static.nominal_prefill_s_per_token)
    require(same, "prefill_s_per_token is not the nominal one")
    share = view.tpot_s / static.nominal_tpot_s
    require(((share > 0.25) & (share <= 1.001)).all(), f"tpot_s is {share.tolist()} of the nominal one on an idle pool")


def stays_sane(make: Make) -> None:
    """Whatever passes, it writes finite numbers into the view's own arrays: queues of 0 or more, speeds above 0."""
    view = idle_view(3)
    estimator = make()
    estimator.attach(view)
    arrays = _learned(view)
    rng = np.random.default_rng(0)
    now_s = 0.0
    running: list[tuple[Request, int, float, float]] = []
    for k in range(300):
        one, i, sent_s = Request(k, now_s, int(rng.integers(1, 3000)), 4096, 10.0), int(rng.integers(3)), now_s
        view.in_flight[i] += 1
        view.in_flight_prefill_tokens[i] += one.prompt_tokens
        estimator.dispatched(i, one, now_s)
        if rng.random() < 0.1:  # migrated, rejected or lost: nobody tells the estimator
            view.in_flight[i] -= 1
            view.in_flight_prefill_tokens[i] -= one.prompt_tokens
            continue
        now_s += rng.exponential(0.2)
        view.in_flight_prefill_tokens[i] -= one.prompt_tokens
        estimator.first_token(i, one, sent_s, now_s)
        running.append((one, i, sent_s, now_s))
        if rng.random() < 0.5:
            estimator.streamed(i, int(rng.integers(1, 200)), 0.5 * int(rng.integers(1, 9)), now_s)
        if len(running) > 20:
            one, i, sent_s, first_s = running.pop(int(rng.integers(20)))
            now_s += 0.01
            view.in_flight[i] -= 1
            estimator.finished(Completion(one, i, sent_s, first_s, now_s, int(rng.integers(1, 500))))
        if rng.random() < 0.3:
            now_s += rng.exponential(1.0)
            estimator.refresh(now_s)
        for name, array in arrays.items():
            require(getattr(view, name) is array, f"it replaced view.{name} instead of writing into it")
            least = array.min()
            right = np.isfinite(array).all() and (least >= 0 if name == "queue_s" else least > 0)
            require(right, f"view.{name} is {array.tolist()} after {k + 1} requests")


def keeps_instances_apart(make: Make) -> None:
    """What happens on one instance changes nothing that it says of the others."""
    view = idle_view(3)
    estimator = make()
    estimator.attach(view)
    before = {name: array.copy() for name, array in _learned(view).items()}
    one = Request(0, 0.0, 100, 4096, 10.0)
    view.in_flight[1] += 1
    view.in_flight_prefill_tokens[1] += 100
    estimator.dispatched(1, one, 0.0)
    view.in_flight_prefill_tokens[1] -= 100
    estimator.first_token(1, one, 0.0, 3.0)
    estimator.streamed(1, 10, 5.0, 3.0)
    view.in_flight[1] -= 1
    estimator.finished(Completion(one, 1, 0.0, 3.0, 9.0, 50))
    for name, array in _learned(view).items():
        require(np.array_equal(array[[0, 2]], before[name][[0, 2]]), f"view.{name} of other instances changed")


def time_passes_in_any_spans(make: Make) -> None:
    """Ten minutes without news leave the same after one refresh and after many: it is told of idle time all at once."""
    said = []
    for spans in ([600.0], [0.5] * 1200):
        view = idle_view(2)
        estimator = make()
        estimator.attach(view)
        one = Request(0, 0.0, 500, 4096, 10.0)
        estimator.dispatched(0, one, 0.0)
        estimator.first_token(0, one, 0.0, 4.0)
        estimator.streamed(0, 20, 10.0, 9.0)
        estimator.finished(Completion(one, 0, 0.0, 4.0, 9.0, 21))
        now_s = 10.0
        estimator.refresh(now_s)
        for span_s in spans:
            now_s += span_s
            estimator.refresh(now_s)
        said.append({name: array.copy() for name, array in _learned(view).items()})
    for name in said[0]:
        same = np.allclose(said[0][name], said[1][name], rtol=0.01, atol=1e-6)
        require(same, f"view.{name} is {said[0][name].tolist()} after one span and {said[1][name].tolist()} after many")


def runs(make: Make) -> None:
    """A whole run with it ends, twice in the same way."""
    once, again = (run(estimator=make(), router=build("router", "fastest")) for _ in range(2))
    require(same_run(once, again), "two runs of the same seed differ")


CHECKS = (starts_at_nominal_speed, stays_sane, keeps_instances_apart, time_passes_in_any_spans, runs)
