"""A policy that decides in every iteration: what it is asked, what its answers do, and which are refused."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
from engine_cases import job
from policies import engine, finish_times, served

from gsim.core import SimulationError
from gsim.core.scheduling import Plan
from gsim.engine.stepwise import StepwiseEngine


class Planner:
    """Answers what a test wants."""

    every_iterations: ClassVar[int] = 1
    answer: ClassVar = staticmethod(lambda view: Plan())

    def queue_key(self, request, card):
        return 0.0

    def plan(self, view):
        return self.answer(view)


def planner(answer, every=1):
    """A policy with this plan."""
    return type("Mine", (Planner,), {"answer": staticmethod(answer), "every_iterations": every, "__doc__": "."})


def test_an_empty_plan_is_first_come_first_served(own):
    own(planner(lambda view: Plan()))
    jobs = [(30, {"prompt": 40}), (60, {"prompt": 30}), (40, {"prompt": 20})]
    tight = {"kv_blocks": 9, "prefix_caching": False}
    mine = served(engine(**tight), *jobs)
    assert isinstance(engine(**tight), StepwiseEngine)
    assert mine == served(engine("fcfs", **tight), *jobs)
    assert any(event.kind == 2 for event in mine)


def test_who_pauses_keeps_its_blocks_and_computes_nothing(own):
    own(planner(lambda view: Plan(pause=tuple(r.request_id for r in view.running if view.now_s < 10 and r.request_id))))
    one = engine()
    times = finish_times(served(one, (5, {}), (5, {})))
    # Both prompts are computed in the first iteration; then one waits for ten seconds, or for nobody to run.
    assert times == {0: 5.0, 1: 9.0}


def test_where_all_are_to_pause_nobody_does(own):
    own(planner(lambda view: Plan(pause=tuple(r.request_id for r in view.running))))
    assert finish_times(served(engine(), (5, {}), (5, {}))) == {0: 5.0, 1: 5.0}


def test_who_is_preempted_is_computed_again_and_who_rotates_brings_its_kv(own):
    at = {"preempt": (), "rotate": ()}

    def once(view):
        out = tuple(r.request_id for r in view.running if view.now_s == 3.0)
        return Plan(preempt=out) if at["how"] == "preempt" else Plan(rotate=out, host_s_per_token=0.01)

    own(planner(once))
    at["how"] = "preempt"
    events = served(engine(prefix_caching=False), (9, {"prompt": 100}))
    assert [event.kind for event in events] == [0, 2, 1]
    assert finish_times(events) == {0: 9.0}
    at["how"] = "rotate"
    one = engine(prefix_caching=False)
    events = served(one, (9, {"prompt": 100}))
    # 102 tokens had KV at 3 s; they go out and come back in the same iteration, at 10 ms each, both ways at once.
    assert finish_times(events) == {0: pytest.approx(9.0 + 1.02)}


def test_a_rotated_request_computes_only_what_has_no_kv(own):
    from engine_cases import AffineTime

    own(planner(lambda view: Plan(rotate=tuple(r.request_id for r in view.running if view.now_s > 100.0))))
    one = engine(latency=AffineTime(1.0, 1.0, 0.0, 0.0), prefix_caching=False)
    # A second per iteration and one per token: 101 s for the prompt, then 2 s for each of four tokens.
    assert finish_times(served(one, (5, {"prompt": 100}))) == {0: 109.0}


def test_speed_and_batch_follow_the_plan(own):
    own(planner(lambda view: Plan(speed=0.5, max_running=1)))
    assert finish_times(served(engine(), (5, {}), (5, {}))) == {0: 10.0, 1: 20.0}


def test_what_a_slowed_card_draws_is_counted(own):
    own(planner(lambda view: Plan(power=0.25 if view.now_s < 2.0 else 1.0)))
    one = engine()
    served(one, (5, {}))
    assert (one.busy_s(9.0), one.power_s(9.0)) == (5.0, 3.5)
    one.submit(job(7, 10.0, output=5), 10.0)
    assert (one.busy_s(10.5), one.power_s(10.5)) == (5.5, 4.0)


def test_the_queue_is_put_in_order_until_the_next_plan(own):
    own(planner(lambda view: Plan(order=(2, 1) if len(view.waiting) == 3 else ()), every=100))
    assert list(finish_times(served(engine(max_num_seqs=1), (2, {}), (2, {}), (2, {})))) == [2, 1, 0]


def test_admission_is_asked_for_the_head_and_never_leaves_an_engine_idle(own):
    asked = []

    class Never:
        """Admits nobody."""

        def queue_key(self, request, card):
            return 0.0

        def admits(self, request, view):
            asked.append((request.request_id, len(view.running)))
            return False

    own(Never)
    assert finish_times(served(engine(), (3, {}), (3, {}))) == {0: 3.0, 1: 6.0}
    assert asked == [(1, 1)] * 3


def test_who_finished_is_told(own):
    told = []

    class Learns:
        """Remembers."""

        def queue_key(self, request, card):
            return 0.0

        def finished(self, request):
            told.append((request.request_id, request.generated_tokens))

    own(Learns)
    one = engine()
    one.submit(job(7, 0.0, output=50, max_output_tokens=60), 0.0)
    one.advance(2.0)
    one.abort(7, 2.5)
    served(one, (3, {}), (4, {}))
    assert told == [(0, 3), (1, 4)]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda view: None, r"scheduler 'mine' answered None \(NoneType\); allowed: a Plan"),
        (lambda view: Plan(pause=(77,)), "names request 77 in pause; allowed: requests that are running here"),
        (lambda view: Plan(order=(0, 0)), "names a request twice in order"),
        (lambda view: Plan(speed=0.0), "plans speed = 0.0; allowed: above 0, at most 1"),
        (lambda view: Plan(power=2.0), "plans power = 2.0; allowed: 0 to 1"),
        (lambda view: Plan(max_running=0), "plans max_running = 0"),
        (lambda view: Plan(host_s_per_token=math.nan), "plans host_s_per_token = nan"),
        (lambda view: view.running[0].nothing, r"'mine' failed in plan\(\): IndexError|failed in answer"),
    ],
)
def test_what_cannot_be_meant_is_told_as_the_policys(own, answer, said):
    own(planner(answer))
    with pytest.raises(SimulationError, match=said):
        served(engine(), (3, {}))


def test_an_interval_is_a_whole_number(own):
    own(planner(lambda view: Plan(), every=0))
    with pytest.raises(SimulationError, match="every_iterations = 0; allowed: a whole number, 1 or more"):
        served(engine(), (3, {}))


def test_a_key_that_is_none_is_told_as_the_policys(own):
    class Nan:
        """No number."""

        def queue_key(self, request, card):
            return math.nan if request.request_id else request.nothing

    own(Nan)
    with pytest.raises(
        SimulationError, match=r"scheduler 'mine' failed in queue_key\(\) for request 0: AttributeError"
    ):
        engine().submit(job(0), 0.0)
    with pytest.raises(SimulationError, match="scheduler 'mine' gave the queue key nan"):
        engine().submit(job(1), 0.0)
