"""What a user sees whose policy answers what cannot be meant, reads what it did not declare, writes, or fails."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from cluster_cases import constant_pool, poisson, simulate_on

from gsim.cluster import Scenario, simulate
from gsim.core import (
    HOLD,
    ActiveRequests,
    ClusterView,
    ConfigError,
    Migration,
    Request,
    SimulationError,
    build,
    registry,
)
from gsim.run.choice import Choice

NOT_AN_INSTANCE = (1.7, "1", None, math.nan, np.array([1]), np.float64(0.0), True, -1, 2, Migration(0, 1))
NOT_TOKENS = (math.nan, math.inf, -math.inf, 0.0, -5, "7", None, np.array([3.0]))
ALLOWED = "an instance's index (a whole number from 0 to 1), HOLD or REJECT"


@dataclass
class Answers:
    """A router that answers what it is told to."""

    answer: Any

    def route(self, request: Request, view: ClusterView) -> Any:
        return self.answer


@dataclass
class Reviews:
    """A rectifier that answers what it is told to."""

    answer: Any
    interval_s: Any = 0.1
    needs: ClassVar[frozenset[str]] = frozenset()

    def review(self, active: ActiveRequests, view: ClusterView) -> Any:
        return self.answer(active, view) if callable(self.answer) else self.answer


@dataclass
class Predicts:
    """A predictor that answers what it is told to, at first or when asked again."""

    first: Any
    again: Any = 100.0

    def predict(self, request: Request, generated_tokens: int = 0) -> Any:
        return self.again if generated_tokens else self.first

    def observe(self, request: Request, output_tokens: int) -> None:
        """Learns nothing."""


class Undeclared:
    """A router without ``needs``, as somebody writes a first one."""

    def __init__(self, read: Callable[[ClusterView, Request], Any]) -> None:
        self._read = read

    def route(self, request: Request, view: ClusterView) -> int:
        self._read(view, request)
        return 0


def run(router: Any = "round_robin", **policies: Any) -> Any:
    """A small run: two instances, ten requests."""
    return simulate_on(constant_pool(2, 0.01), poisson(0, 10, 10.0), router, **policies)


def reviewed(rectifier: Any, router: Any = "round_robin") -> Any:
    return run(router, rectifier=rectifier, mechanism=build("mechanism", "token_ids"))


def predicted(predictor: Any) -> Any:
    """A run whose router and rectifier both ask for predictions."""
    scenario = Scenario(
        instances=constant_pool(2, 0.01),
        router=build("router", "edf"),
        predictor=predictor,
        estimator=build("estimator", "ema"),
        rectifier=build("rectifier", "risk_monitor"),
        mechanism=build("mechanism", "token_ids"),
    )
    return simulate(scenario, poisson(0, 10, 10.0), 0)


def estimated(estimator: Any) -> Any:
    """A run whose router reads estimates."""
    pool, router, predictor = constant_pool(2, 0.01), build("router", "fastest"), build("predictor", "oracle")
    return simulate(
        Scenario(instances=pool, router=router, predictor=predictor, estimator=estimator), poisson(0, 10, 10.0), 0
    )


def told(call: Callable[[], Any]) -> str:
    with pytest.raises(SimulationError) as error:
        call()
    return str(error.value)


@pytest.mark.parametrize("answer", NOT_AN_INSTANCE, ids=repr)
def test_a_router_may_answer_an_index_hold_or_reject(answer):
    said = told(lambda: run(Answers(answer)))
    assert said == f"router Answers answered {answer!r} ({type(answer).__name__}) for request 0; allowed: {ALLOWED}"


@pytest.mark.parametrize("answer", [1, np.int64(1), np.uint8(1)], ids=repr)
def test_numpys_whole_numbers_are_indices(answer):
    assert run(Answers(answer)).requests["instance"].tolist() == [1] * 10


@pytest.mark.parametrize("answer", NOT_TOKENS, ids=repr)
def test_a_prediction_is_a_finite_number_of_tokens(answer):
    allowed = "allowed: a finite number of tokens above 0"
    said = told(lambda: predicted(Predicts(answer)))
    assert said == f"predictor Predicts predicted {answer!r} ({type(answer).__name__}) for request 0; {allowed}"
    again = told(lambda: predicted(Predicts(100.0, answer)))
    assert again.startswith("predictor Predicts predicted ")
    assert "for request " in again or "one number per request" in again


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (None, "answered None (NoneType) to a review; allowed: a sequence of Migration"),
        ([(0, 1)], "allowed: Migration(request_id, target)"),
        ([Migration(0, 2)], "moves request 0 (int) to instance 2 (int); allowed: "),
        ([Migration(0, -1)], "to instance -1 (int); allowed: "),
        ([Migration(0, 0.5)], "to instance 0.5 (float); allowed: "),  # type: ignore[arg-type]
        ([Migration(None, 1)], "moves request None (NoneType)"),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_a_rectifier_answers_migrations_inside_the_pool(answer, part):
    said = told(lambda: reviewed(Reviews(answer)))
    assert said.startswith("rectifier Reviews ")
    assert part in said


@pytest.mark.parametrize("interval_s", [0, 0.0, -1.0, math.nan, None, "soon"], ids=repr)
def test_reviews_are_apart_in_time(interval_s):
    said = told(lambda: reviewed(Reviews([], interval_s)))
    assert said.startswith(f"rectifier Reviews has interval_s = {interval_s!r}")
    assert said.endswith("allowed: 1e-06 seconds or more (inf: no reviews)")


def test_an_interval_that_shrinks_to_nothing_ends_the_run():
    rectifier = Reviews(lambda active, view: setattr(rectifier, "interval_s", 0) or [])
    assert told(lambda: reviewed(rectifier)).startswith("rectifier Reviews has interval_s = 0 (int)")


def test_a_queue_key_is_a_number():
    class Holds(Answers):
        def queue_key(self, request: Request, view: ClusterView) -> float:
            return math.nan

    assert "gave the queue key nan (float) to request 0" in told(lambda: run(Holds(HOLD)))


READS = {
    "scrape": ("running", "waiting", "kv_usage", "scraped_s"),
    "estimates": ("queue_s", "prefill_s_per_token", "tpot_s"),
    "prediction": ("in_flight_tokens", "predict"),
    "prefix": ("prefix_tokens",),
}


@pytest.mark.parametrize(("need", "signal"), [(n, s) for n, signals in READS.items() for s in signals])
def test_a_signal_that_was_not_declared_is_an_error(need, signal):
    said = told(lambda: run(Undeclared(lambda view, request: getattr(view, signal))))
    assert said.startswith(f"router Undeclared reads view.{signal} without declaring it: add '{need}' to its needs")


def test_what_the_router_declares_the_rectifier_has_not():
    """Signals that are maintained for another policy are as closed as those of nobody."""

    def look(active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
        assert np.isnan(active.predicted_tokens).all()
        return [Migration(0, int(view.tpot_s.argmin()))]

    said = told(lambda: reviewed(Reviews(look), "goodserve"))
    assert said.startswith("rectifier Reviews reads view.tpot_s without declaring it: add 'estimates'")


@pytest.mark.parametrize("signal", ["available", "in_flight", "in_flight_prefill_tokens"])
def test_signals_are_read_and_not_written(signal):
    def write(view: ClusterView, request: Request) -> None:
        getattr(view, signal)[:] = 0

    said = told(lambda: run(Undeclared(write)))
    assert said.startswith("router Undeclared failed in route() for request 0: ValueError: assignment destination")
    assert "test_policy_answers.py" in said
    with pytest.raises(SimulationError, match="read-only"):
        run(Undeclared(lambda view, request: view.static.kv_capacity_tokens.fill(0)))


class Fails:
    """A router that ends in one of the ways in which programs end."""

    def __init__(self, how: Callable[[], None]) -> None:
        self._how = how

    def route(self, request: Request, view: ClusterView) -> int:
        if request.request_id == 3:
            self._how()
        return 0


def fail_with_words() -> None:
    raise KeyError("no such thing")


@pytest.mark.parametrize(
    ("how", "part"),
    [(fail_with_words, "KeyError: 'no such thing'"), (lambda: sys.exit(3), "SystemExit: 3"), (sys.exit, "SystemExit")],
)
def test_a_policy_that_fails_is_named_with_the_request(how, part):
    said = told(lambda: run(Fails(how)))
    assert said.startswith(f"router Fails failed in route() for request 3: {part}")
    assert f"({__file__}:" in said


def test_a_failure_inside_a_process_is_told_too():
    class Stumbles(Reviews):
        def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
            raise ZeroDivisionError

    said = told(lambda: reviewed(Stumbles([])))
    assert said.startswith("rectifier Stumbles failed in review(): ZeroDivisionError: without a word")


def test_errors_that_are_no_policys_stay_as_they_are():
    def broken() -> Any:
        yield from poisson(0, 2, 10.0)
        raise ZeroDivisionError("in the trace")

    with pytest.raises(ZeroDivisionError, match="in the trace"):
        simulate_on(constant_pool(2, 0.01), broken(), "round_robin")


class NoRoute:
    """A router that lacks everything."""


class NoInterval:
    """A rectifier that does not say when."""

    def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
        return []


class NoObserve:
    """A predictor that cannot learn."""

    def predict(self, request: Request, generated_tokens: int = 0) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: run(NoRoute()), "router NoRoute has no method route(request, view)"),
        (lambda: reviewed(NoInterval()), "rectifier NoInterval has no attribute interval_s"),
        (lambda: predicted(NoObserve()), "predictor NoObserve has no method observe(request, output_tokens)"),
        (lambda: estimated(NoRoute()), "estimator NoRoute has no method attach(view)"),
    ],
)
def test_what_a_policy_lacks_is_said_before_the_clock_starts(call, said):
    with pytest.raises(ConfigError) as error:
        call()
    assert str(error.value) == said


def test_a_policy_that_cannot_be_made_is_named(monkeypatch):
    @dataclass
    class Refuses:
        """A router that does not want to."""

        def __post_init__(self) -> None:
            raise ValueError("not today")

    entry = registry.Entry("router", "refuses", Refuses, Refuses)
    monkeypatch.setitem(registry._ENTRIES["router"], "refuses", entry)
    for make in (lambda: build("router", "refuses"), Choice("router", "refuses", {}).build):
        with pytest.raises(ConfigError) as error:
            make()
        assert str(error.value).startswith("router 'refuses' cannot be made: ValueError: not today (")
        assert "test_policy_answers.py" in str(error.value)


@pytest.mark.parametrize(
    ("needs", "part"),
    [("estimates", "has needs = 'estimates'; allowed: a set of ["), (3, "has needs = 3"), ({"luck", 1}, "'luck'")],
)
def test_needs_are_a_set_of_known_ones(needs, part):
    router = Answers(0)
    router.needs = needs
    with pytest.raises(ConfigError, match="^router Answers ") as error:
        run(router)
    assert part in str(error.value)


COLUMNS = [field.name for field in dataclasses.fields(ActiveRequests)]


@pytest.mark.parametrize("column", [name for name in COLUMNS if name != "observed_s"])
def test_the_requests_in_flight_are_read_and_not_written(column):
    def write(active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
        getattr(active, column)[:] = 0
        return []

    assert "read-only" in told(lambda: reviewed(Reviews(write)))

    class Writes(Undeclared):
        needs: ClassVar[frozenset[str]] = frozenset({"requests"})

    router = Writes(lambda view, request: len(view.observed()) and getattr(view.observed(), column).fill(0))
    assert "read-only" in told(lambda: run(router))


def test_a_column_of_the_requests_in_flight_is_not_replaced():
    assert "cannot assign to field 'moves'" in told(
        lambda: reviewed(Reviews(lambda active, view: setattr(active, "moves", active.moves * 0) or []))
    )


def test_an_array_that_a_predictor_answers_stays_its_own():
    kept = []

    class Batch(Predicts):
        def repredict(self, requests: Any, generated_tokens: Any, first: Any) -> Any:
            kept.append(np.full(len(first), 1e4))
            return kept[-1]

    predicted(Batch(100.0))
    assert all(array.flags.writeable for array in kept)


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (lambda active, view: [Migration(99, 1)], "moves request 99 to instance 1; allowed: a request of the "),
        (
            lambda active, view: [Migration(int(active.request_id[0]), int(active.instance[0]))],
            ", where it is; allowed: another instance",
        ),
    ],
)
def test_a_rectifier_moves_who_was_in_its_review_to_elsewhere(answer, part):
    said = told(lambda: reviewed(Reviews(answer)))
    assert said.startswith("rectifier Reviews moves request ")
    assert part in said


@pytest.mark.parametrize(
    ("signal", "value", "part"),
    [
        ("tpot_s", math.nan, "tpot_s = nan for instance 1; allowed: a finite number of seconds above 0"),
        ("tpot_s", 0.0, "tpot_s = 0.0 for instance 1"),
        ("queue_s", -1.0, "queue_s = -1.0 for instance 1; allowed: a finite number of seconds 0 or more"),
        ("prefill_s_per_token", math.inf, "prefill_s_per_token = inf for instance 1"),
    ],
)
def test_an_estimator_says_what_can_be_meant(signal, value, part):
    class Says(type(build("estimator", "ema"))):
        def refresh(self, now_s: float) -> None:
            getattr(self.seen, signal)[1] = value

        def attach(self, view: ClusterView) -> None:
            super().attach(view)
            self.seen = view

    assert told(lambda: estimated(Says())).startswith(f"estimator Says says {part}")


def test_an_error_of_gsims_own_that_a_policy_raises_names_the_policy():
    def refuse() -> None:
        raise SimulationError("this cannot be")

    assert told(lambda: run(Fails(refuse))) == "router Fails in route() for request 3: this cannot be"

    def misconfigure() -> None:
        raise ConfigError("router.x must be 1")

    with pytest.raises(ConfigError, match=r"^router Fails in route\(\) for request 3: router.x must be 1$"):
        run(Fails(misconfigure))
