"""What a user sees whose policy fails, or lacks what its kind needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from cluster_cases import constant_pool, poisson, simulate_on
from policy_cases import Answers, Reviews, estimated, predicted, reviewed, run, told

from gsim.core import (
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


def test_a_policy_is_found_whatever_it_calls_itself():
    said = told(lambda: run(Otherwise()))
    assert said.startswith("router Otherwise failed in route(): AttributeError: 'Otherwise' object has no attribute")


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


class Otherwise:
    """A router whose author calls its own object and the request otherwise."""

    def route(this, asked, view):  # noqa: N805
        return this.nowhere


class OfOne:
    """A router that forgot the view."""

    def route(self, request):
        return 0


class OfAny:
    """A router that takes whatever comes."""

    def route(self, *given, **more):
        return 0


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
        (lambda: run(OfOne()), "router OfOne: route must take (request, view)"),
    ],
)
def test_what_a_policy_lacks_is_said_before_the_clock_starts(call, said):
    with pytest.raises(ConfigError) as error:
        call()
    assert str(error.value) == said
    run(OfAny())


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
        assert "test_policy_failures.py" in str(error.value)


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


def test_an_error_of_gsims_own_that_a_policy_raises_names_the_policy():
    def refuse() -> None:
        raise SimulationError("this cannot be")

    assert told(lambda: run(Fails(refuse))) == "router Fails in route() for request 3: this cannot be"

    def misconfigure() -> None:
        raise ConfigError("router.x must be 1")

    with pytest.raises(ConfigError, match=r"^router Fails in route\(\) for request 3: router.x must be 1$"):
        run(Fails(misconfigure))
