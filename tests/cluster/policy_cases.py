"""Policies that do what a test tells them to, and small runs under them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from cluster_cases import constant_pool, poisson, simulate_on

from gsim.cluster import Scenario, simulate
from gsim.core import (
    ActiveRequests,
    ClusterView,
    Request,
    SimulationError,
    build,
)


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
