"""What a user sees whose policy reads what it did not declare, or writes what it may only read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from policy_cases import Predicts, Reviews, Undeclared, predicted, reviewed, run, told

from gsim.core import (
    ActiveRequests,
    ClusterView,
    Migration,
    Request,
    SimulationError,
)

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
    assert "policy_cases.py" in said
    with pytest.raises(SimulationError, match="read-only"):
        run(Undeclared(lambda view, request: view.static.kv_capacity_tokens.fill(0)))


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
