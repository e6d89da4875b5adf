"""Every registered policy keeps its group's promises, and a broken one is told what it breaks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from gsim.cli.entry import main
from gsim.contract.check import CHECKS, verdicts
from gsim.core import HOLD, ActiveRequests, ClusterView, Completion, ConfigError, Migration, Request, entries, registry

POLICIES = [
    (group, name)
    for group in CHECKS
    for name, entry in entries(group).items()
    if not getattr(entry.cls, "offline", False)
]
#: Fields that make the learned ones fit within a few requests.
QUICK = {name: {"min_samples": 60, "retrain_every": 1000, "trees": 4} for name in ("moe", "pooled_gbdt")}


@pytest.mark.parametrize(("group", "name"), POLICIES)
def test_every_policy_keeps_its_promises(group, name):
    broken = [verdict for verdict in verdicts(group, name, **QUICK.get(name, {})) if verdict.broken]
    assert not broken


@pytest.mark.parametrize("group", registry.groups())
def test_every_entry_says_in_one_line_what_it_is(group):
    cut = {name: entry.summary for name, entry in entries(group).items() if not entry.summary.endswith((".", ".)"))}
    assert cut == {}


@dataclass
class Nothing:
    """A router that breaks what can be broken."""

    def route(self, request: Request, view: ClusterView) -> Any:
        if request.request_id == 5:
            return 1.7
        if view.available[0]:
            view.available[0] = False
        return int(view.tpot_s.argmin())

    def queue_key(self, request: Request, view: ClusterView) -> float:
        return math.nan


@dataclass
class Forgetful:
    """A predictor that answers less than there is, and something else each time."""

    asked: int = 0

    def predict(self, request: Request, generated_tokens: int = 0) -> float:
        self.asked += 1
        return float(self.asked)

    def observe(self, request: Request, output_tokens: int) -> None:
        """Learns nothing."""


class Replaces:
    """An estimator that puts an array of its own into the view."""

    def attach(self, view: ClusterView) -> None:
        self.view = view

    def dispatched(self, instance: int, request: Request, now_s: float) -> None:
        self.view.queue_s = np.full(len(self.view), np.nan)

    def first_token(
        self, instance: int, request: Request, dispatched_s: float, now_s: float, cached_tokens: int = 0
    ) -> None: ...
    def streamed(self, instance: int, tokens: int, span_s: float, now_s: float) -> None: ...
    def finished(self, completion: Completion) -> None: ...
    def refresh(self, now_s: float) -> None: ...


class Ticks(Replaces):
    """An estimator that forgets by the number of refreshes, however much time lies between them."""

    def dispatched(self, instance: int, request: Request, now_s: float) -> None: ...
    def first_token(
        self, instance: int, request: Request, dispatched_s: float, now_s: float, cached_tokens: int = 0
    ) -> None:
        self.view.queue_s[instance] = 4.0

    def refresh(self, now_s: float) -> None:
        self.view.queue_s *= 0.9


@dataclass
class Restless:
    """A rectifier that moves everybody to instance 0, again and again."""

    interval_s: float = 0.0
    needs: ClassVar[frozenset[str]] = frozenset()

    def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
        return [Migration(int(i), 0) for i in active.request_id] or [Migration(0, 0)]


@pytest.fixture
def registered(monkeypatch):
    """Policies that are registered for one test."""

    def add(group: str, name: str, cls: type) -> None:
        known = {**registry._ENTRIES[group], name: registry.Entry(group, name, cls, dataclass(cls))}
        monkeypatch.setitem(registry._ENTRIES, group, known)

    return add


@pytest.mark.parametrize(
    ("group", "cls", "words"),
    [
        ("router", Nothing, ["read-only", "queue key nan"]),
        ("predictor", Forgetful, ["tokens in all where there were 17", "first and"]),
        ("estimator", Replaces, ["queue_s is [99.0, 99.0, 99.0] on an idle pool", "it replaced view.queue_s"]),
        ("estimator", Ticks, ["after one span and [", "after many"]),
        ("rectifier", Restless, ["interval_s = 0.0 (float)", "moves request", "it moves somebody"]),
    ],
)
def test_what_a_broken_policy_breaks_is_said_in_words(registered, capsys, group, cls, words):
    registered(group, "mine", cls)
    assert main(["check", "mine"]) == 1
    said, errors = capsys.readouterr()
    assert f"{group} 'mine'" in said, errors
    assert "BROKEN" in said
    for part in words:
        assert part in said


def test_signals_are_checked_as_in_a_run(registered, capsys):
    @dataclass
    class Reads:
        """A router without needs."""

        def route(self, request: Request, view: ClusterView) -> Any:
            return int(view.tpot_s.argmin()) if view.available.all() else HOLD

    registered("router", "reads", Reads)
    assert main(["check", "router=reads"]) == 1
    assert "router 'reads' reads view.tpot_s without declaring it" in capsys.readouterr().out


def test_a_policy_that_lacks_a_method_is_not_tried(registered, capsys):
    class Forgets:
        """A predictor that cannot learn."""

        def predict(self, request: Request, generated_tokens: int = 0) -> float:
            return 1.0

    registered("predictor", "noobs", Forgets)
    assert main(["check", "noobs"]) == 1
    assert "predictor 'noobs' has no method observe(request, output_tokens)" in capsys.readouterr().err


def test_a_fault_that_breaks_every_promise_is_told_once(registered, capsys):
    @dataclass
    class Fails:
        """A router that always fails."""

        def route(self, request: Request, view: ClusterView) -> Any:
            raise ConfigError("never")

    registered("router", "fails", Fails)
    assert main(["check", "router=fails"]) == 1
    said = capsys.readouterr().out
    assert said.count("router 'fails' in route() for request 0: never") == 1
    assert said.count("same fault") == said.count("BROKEN") - 1 > 3


def test_needs_are_read_as_in_a_run(registered, capsys):
    @dataclass
    class Letters:
        """A router whose needs are a word."""

        needs: ClassVar[str] = "estimates"

        def route(self, request: Request, view: ClusterView) -> Any:
            return 0

    registered("router", "letters", Letters)
    assert main(["check", "router=letters"]) == 1
    assert "router 'letters' has needs = 'estimates'" in capsys.readouterr().out


def test_a_rectifier_that_writes_is_told(registered, capsys):
    @dataclass
    class Writes:
        """A rectifier that marks what it has seen."""

        interval_s: float = 0.1

        def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
            active.moving[:] = True
            return []

    registered("rectifier", "writes", Writes)
    assert main(["check", "rectifier=writes"]) == 1
    assert "rectifier 'writes' failed in review(): ValueError: assignment destination" in capsys.readouterr().out


def test_the_command_names_what_it_does_not_know(capsys):
    assert main(["check", "nobody"]) == 1
    assert "there is no policy 'nobody'" in capsys.readouterr().err
    assert main(["check"]) == 1
    assert "check NAME" in capsys.readouterr().err
    assert main(["check", "ilp_plan"]) == 1
    assert "decides before the run" in capsys.readouterr().err
    assert main(["check", "estimator=ema"]) == 0
    assert "5 of 5 promises hold" in capsys.readouterr().out
