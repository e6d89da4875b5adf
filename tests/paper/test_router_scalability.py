"""Wall times are measured from outside: what is watched behaves as if nobody watched."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from gsim.cli.compose import compose, hydra_session, plain, register_schema
from gsim.cli.entry import main
from gsim.cluster import simulate
from gsim.core import BatchPredictor, ConfigError, Learner, Oracle, Placed, QueueOrder, Randomised, entries
from gsim.paper.router_scalability import RouterScalability, measure, watched
from gsim.paper.stopwatch import Stopwatch, Watched
from gsim.run.settings import Settings

PROTOCOLS = (BatchPredictor, Learner, Oracle, Placed, QueueOrder, Randomised)


@dataclass(frozen=True)
class Parent:
    pause_s: float = 0.01

    def outer(self):
        time.sleep(self.pause_s)
        return self.inner()

    def inner(self):
        time.sleep(2 * self.pause_s)
        return "done"


class Child(Parent):
    pass


@pytest.fixture(scope="module")
def settings():
    register_schema()
    with hydra_session() as hydra:
        words = ["trace.requests=60", "trace.rate_per_s=60", "router=goodserve", "warmup_s=0"]
        return Settings.read(plain(compose(hydra, words)[0]))


def test_a_call_inside_of_another_counts_for_its_own_part():
    watch, child = Stopwatch(), Child()
    watch.start()
    with watch.on([Watched("out", Child, "outer"), Watched("in", Child, "inner")]):
        assert child.outer() == "done"
    watch.stop()
    assert child.outer() == "done"
    assert len(watch.seconds("out")) == len(watch.seconds("in")) == 1
    assert watch.seconds("in")[0] >= 0.02
    assert 0.01 <= watch.seconds("out")[0] < 0.02 + 0.5 * watch.seconds("in")[0]
    assert watch.wall_s >= 0.03


def test_watching_leaves_classes_as_they_were_even_after_an_error():
    before = dict(vars(Child)), dict(vars(Parent))
    watch = Stopwatch()
    with pytest.raises(RuntimeError), watch.on([Watched("in", Child, "inner"), Watched("in", Parent, "inner")]):
        raise RuntimeError
    assert (dict(vars(Child)), dict(vars(Parent))) == before


def test_a_class_that_cannot_be_changed_is_said_to_be_unseen():
    watch = Stopwatch()
    with watch.on([Watched("lists", list, "append")]):
        assert watch.unseen == {"lists"}


@pytest.mark.parametrize("name", [name for name in entries("router") if not name.startswith("ilp")])
def test_a_watched_router_is_what_it_was(name, settings):
    scenario = settings.replace(router={"name": name}).scenario()
    seen = watched(scenario, Stopwatch())
    assert seen.policies.needs == scenario.policies.needs
    assert seen.scrape_interval_s == scenario.scrape_interval_s
    for policy in ("router", "predictor", "estimator", "rectifier"):
        own, double = getattr(scenario, policy), getattr(seen, policy)
        assert type(double) is not type(own)
        assert type(double).__name__ == type(own).__name__
        assert [isinstance(double, p) for p in PROTOCOLS] == [isinstance(own, p) for p in PROTOCOLS]


def test_a_watched_run_has_the_same_results(settings):
    plain_run = simulate(settings.scenario(), settings.sessions(0), 0).requests
    watch = Stopwatch()
    seen = simulate(watched(settings.scenario(), watch), settings.sessions(0), 0).requests
    for name, values in plain_run.items():
        np.testing.assert_array_equal(values, seen[name])
    assert watch.parts == []  # it never ran


def test_decisions_are_counted_between_the_cuts(settings):
    watch = Stopwatch()
    cut = settings.replace(warmup_s=0.5)
    measure(cut, 0, watch)
    arrivals = np.array([session.arrival_s for session in cut.sessions(0)])
    assert len(watch.seconds("decision")) == (arrivals >= 0.5).sum()
    assert {"prediction", "estimates", "review"} <= set(watch.parts)
    assert {"telemetry refresh", "tokens for the review"} <= {*watch.parts, *watch.unseen}


def test_the_study_tables_every_policy_and_pool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["experiment=router_scalability", "policies=[goodserve+risk_monitor,round_robin]", "instances=[4,8]"]
    assert main([*words, "rates_per_s=[60,120]", "seconds=1.5", "warmup_s=0.5", "out=r"]) == 0
    table = pd.read_csv("r/router_scalability.csv")
    assert list(zip(table["instances"], table["rate_per_s"]))[:3] == [(8, 60.0), (4, 60.0), (8, 120.0)]
    assert (table["decision_p50_us"] <= table["decision_p99_us"]).all()
    assert (table["simulated_s_per_wall_s"] > 0).all()
    parts = pd.read_csv("r/parts.csv")
    assert set(parts[parts["policy"] == "round_robin"]["part"]) <= {"decision", "learning"}
    said = (tmp_path / "r" / "findings.txt").read_text()
    assert "among 8 instances" in said
    assert "simulated seconds per wall second" in said


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"instances": ()}, "instances must be sizes"),
        ({"rates_per_s": (0.0,)}, "rates_per_s must be rates above 0"),
        ({"seconds": 0.0}, "seconds must be greater than 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        RouterScalability(**fields)
