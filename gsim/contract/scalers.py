"""What every scaler keeps to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from gsim.cluster.slot_config import SlotConfig
from gsim.contract.cases import busy_view, idle_view, request, require, run, same_run
from gsim.core import (
    ArrivalObserver,
    ClusterView,
    Completion,
    Drain,
    Learner,
    PolicyView,
    Resting,
    Scaler,
    Slots,
    SlotState,
    Start,
)
from gsim.core.answers import interval_of, scalings_of, title
from gsim.gateway.policies import needs_of

Make = Callable[[], Scaler]
_N = 6
_REVIEWS = 40


class _Pool:
    """Slots over some reviews: what starts is up at the next one, what drains is off."""

    def __init__(self, up: int, view: ClusterView) -> None:
        self.view = view
        self.state = np.full(_N, int(SlotState.OFF), dtype=np.int64)
        self.state[:up] = SlotState.UP
        self.since_s = np.zeros(_N)

    def reviewed(self, scaler: Scaler, now_s: float) -> list[Start | Drain]:
        """One review, checked, and carried out."""
        view = self.view
        view.now_s = now_s
        view.available[:] = self.state == SlotState.UP
        slots = Slots(self.state.copy(), self.since_s.copy(), np.full(_N, 20.0), 0)
        name = title("scaler", scaler)
        seen = PolicyView.on(view, name, needs_of("scaler", scaler))
        seen.now_s = now_s
        answer: object = scaler.review(slots, seen)
        asked = scalings_of(answer, slots, view, name)
        self.state[self.state == SlotState.BOOTING] = SlotState.UP
        for one in asked:
            self.state[one.slot] = SlotState.BOOTING if isinstance(one, Start) else SlotState.OFF
            self.since_s[one.slot] = now_s
        return asked

    @property
    def coming(self) -> int:
        """Instances that are up or boot."""
        return int((self.state != SlotState.OFF).sum())


def _days(make: Make, up: int, seed: int) -> Iterator[tuple[_Pool, Scaler, Sequence[Start | Drain]]]:
    """Reviews under a load that comes and goes, as a run would tell of it."""
    rng = np.random.default_rng(seed)
    scaler, pool = make(), _Pool(up, busy_view(_N, seed))
    every_s = min(scaler.interval_s, 60.0)
    for i in range(_REVIEWS):
        now_s = 100.0 + i * every_s
        busy = 1.0 + np.sin(i / 6.0)
        up_now = pool.state == SlotState.UP
        pool.view.running[:] = rng.integers(0, 1 + int(30 * busy), _N) * up_now
        pool.view.waiting[:] = rng.integers(0, 1 + int(8 * busy), _N) * up_now
        pool.view.kv_usage[:] = rng.random(_N) * busy / 2.0 * up_now
        _tell(scaler, rng, now_s, every_s, int(20 * busy))
        yield pool, scaler, pool.reviewed(scaler, now_s + every_s)


def _tell(scaler: Scaler, rng: np.random.Generator, now_s: float, span_s: float, count: int) -> None:
    for number, at_s in enumerate(np.sort(now_s + span_s * rng.random(count)).tolist()):
        one = request(number, arrival_s=at_s)
        if isinstance(scaler, ArrivalObserver):
            scaler.observe_arrival(one)
        if isinstance(scaler, Learner):
            scaler.observe_completion(Completion(one, 0, at_s, at_s + 0.1, at_s + 2.0, int(rng.integers(1, 400))))


def has_an_interval(make: Make) -> None:
    """The time between two of its reviews is above 0."""
    scaler = make()
    interval_of(scaler, title("scaler", scaler))


def asks_for_what_can_be(make: Make) -> None:
    """It starts what is off, stops what is up or boots, and always leaves an instance that can be sent to."""
    for seed in range(3):
        for pool, _, _ in _days(make, 1 + 2 * seed, seed):
            require((pool.state != SlotState.OFF).any(), "every slot is off")


def keeps_its_limits(make: Make) -> None:
    """Once within its min_instances and max_instances, where it has them, it stays there."""
    for pool, scaler, asked in _days(make, 3, 3):
        least, most = getattr(scaler, "min_instances", 1), getattr(scaler, "max_instances", None)
        stopped, started = (sum(isinstance(one, kind) for one in asked) for kind in (Drain, Start))
        require(pool.coming >= least or not stopped, f"it leaves {pool.coming} instances; min_instances is {least}")
        if most is not None:
            require(pool.coming <= most or not started, f"it asks for {pool.coming} instances; max_instances is {most}")


def rests_where_it_says_so(make: Make) -> None:
    """Where it says that it rests while nothing is in flight, its reviews change nothing."""
    scaler, pool = make(), _Pool(4, idle_view(_N))
    if not isinstance(scaler, Resting):
        return
    for i in range(_REVIEWS):
        slots = Slots(pool.state.copy(), pool.since_s.copy(), np.full(_N, 20.0), 0)
        resting = scaler.rests(slots)
        asked = pool.reviewed(scaler, 100.0 + 60.0 * i)
        require(not (resting and asked), f"it rests, and answers {asked}")


def repeats(make: Make) -> None:
    """The same load and signals give the same answers."""
    once, again = ([asked for _, _, asked in _days(make, 2, 9)] for _ in range(2))
    require(once == again, "two series of equal reviews are answered in two ways")


def runs(make: Make) -> None:
    """A whole run under it ends, with every request finished or rejected, twice in the same way."""
    slots = SlotConfig(process_s=0.5, disk_gb_per_s=100.0)
    require(same_run(run(scaler=make(), slots=slots), run(scaler=make(), slots=slots)), "two runs of a seed differ")


CHECKS = (has_an_interval, asks_for_what_can_be, keeps_its_limits, rests_where_it_says_so, repeats, runs)
