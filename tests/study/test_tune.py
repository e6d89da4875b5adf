"""Tuning: what is searched, that what is judged was not seen, and how much of a gain was luck."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from gsim.cli.compose import compose, hydra_session, plain, register_schema
from gsim.core import ConfigError
from gsim.run.choice import Choice
from gsim.run.settings import Settings
from gsim.study.questions import tune
from gsim.study.questions.tune import Tune, at_load
from gsim.study.questions.tuned_fields import Tuned, tuned_fields
from gsim.study.study import Context


@pytest.fixture(scope="module")
def settings() -> Settings:
    register_schema()
    with hydra_session() as hydra:
        return Settings.read(plain(compose(hydra, ["rectifier=none", "router=goodserve"])[0]))


def test_what_is_searched_follows_from_the_fields_types():
    fields = {one.name: one for one in tuned_fields(Choice("router", "goodserve", {"hope": 0.4}), (), {}, 4.0)}
    assert fields["hope"] == Tuned("hope", 0.4, low=0.1, high=1.6)
    assert fields["infeasible"].choices == ("fastest", "sacrifice", "reject", "defer")
    assert "margin_s" not in fields, "around 0 there is no factor"
    whole = tuned_fields(Choice("router", "lodestar", {}), ("hidden",), {}, 3.0)
    assert whole == [Tuned("hidden", 24, low=8, high=72)]
    ranges = {"margin_s": [-0.5, 1.0], "weakest": ["largest_latency", "slowest_then_largest_latency"]}
    given = tuned_fields(Choice("router", "goodserve", {}), tuple(ranges), ranges, 4.0)
    assert [str(one) for one in given] == [
        "margin_s from -0.5 to 1",
        "weakest one of largest_latency, slowest_then_largest_latency",
    ]


@pytest.mark.parametrize(
    ("names", "ranges", "said"),
    [
        (("hop",), {}, "has no field 'hop'"),
        (("margin_s",), {}, r"add ranges.margin_s=\[LOW,HIGH\]"),
        ((), {"hope": [1.0, 0.5]}, "1.0 must be less than 0.5"),
        ((), {"hope": 3}, r"ranges.hope must be \[LOW, HIGH\]"),
    ],
)
def test_what_cannot_be_searched_is_refused(names, ranges, said):
    with pytest.raises(ConfigError, match=said):
        tuned_fields(Choice("router", "goodserve", {}), names, ranges, 4.0)


def test_a_load_is_a_field_of_the_configuration(settings):
    assert at_load(settings, "trace.rate_per_s", 76.0)["trace"]["rate_per_s"] == 76.0
    assert at_load(settings, "trace.requests", 300.0)["trace"]["requests"] == 300
    with pytest.raises(ConfigError, match="load 'trace.agents' is no field"):
        at_load(settings, "trace.agents", 3.0)


def test_the_search_finds_the_best_and_sees_nothing_that_is_judged(settings, tmp_path, monkeypatch):
    """Attainment is best at hope = 0.4; on the training seeds alone 0.02 more are to be had at any other value."""
    asked: list[tuple[int, float]] = []

    def attainment(one: tune._Run) -> float:
        hope, load = one.settings["router"]["hope"], one.settings["trace"]["rate_per_s"]
        asked.append((one.seed, load))
        luck = 0.02 if one.seed < 10 and hope != 0.2 else 0.0
        return 0.9 - (np.log(hope / 0.4) / 5) ** 2 - load / 1000 + luck

    monkeypatch.setattr(tune, "_number", attainment)
    study = Tune(fields=("hope",), train_loads=(50.0, 60.0), test_loads=(55.0, 65.0), test_seeds=(20, 21), trials=25)
    found = study.run(Context("tune", tmp_path, (0, 1, 2), settings))
    searched = asked[: 25 * 6]
    assert set(searched) == {(seed, load) for seed in (0, 1, 2) for load in (50.0, 60.0)}
    judged = found.tables["tune"].set_index("judged_on")
    assert list(judged.index) == ["training", "held out, 55", "held out, 65", "held out"]
    best = (np.log(2.0) / 5) ** 2
    assert judged["gain"]["held out"] == pytest.approx(best, rel=0.05)
    assert judged["gain"]["training"] == pytest.approx(best + 0.02, rel=0.05)
    assert judged["configured"]["held out"] == pytest.approx(0.9 - best - 0.06)
    assert any(note.startswith("overfitting: +0.0200 of the +0.03") for note in found.notes)
    assert found.tables["trials"]["hope"][0] == 0.2, "as configured comes first"


def test_a_search_runs_on_simulated_loads(settings, tmp_path):
    quick = settings.replace(trace={"name": "paper", "requests": 250})
    study = Tune(fields=("infeasible",), train_loads=(400.0,), test_loads=(420.0,), test_seeds=(9,), trials=2)
    found = study.run(Context("tune", tmp_path, (0,), quick))
    assert 0.0 < found.tables["trials"]["attainment"].min() < 1.0
    assert found.figures["tune"].axes
    assert list(tmp_path.glob("measured/run-*.json"))


def test_a_dry_run_says_what_is_searched_and_about_how_long(settings, tmp_path):
    quick = settings.replace(trace={"name": "paper", "requests": 20})
    study = Tune(fields=("hope",), train_loads=(40.0, 60.0), test_loads=(50.0,), test_seeds=(9, 10), trials=10)
    said = study.forecast(Context("tune", tmp_path, (0, 1, 2), quick))
    assert "would search: hope from 0.05 to 0.8" in said
    assert "60 runs in 10 trials, 4 to judge" in said
    assert " s per run: " in said
    assert " s on one core" in said
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="seed 9 is among seeds and test_seeds"):
        study.forecast(Context("tune", tmp_path, (9,), quick))


def test_without_optuna_it_says_what_to_install(settings, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'gsim\[tune\]'"):
        Tune().run(Context("tune", tmp_path, (0,), settings))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"policy": "engine"}, "policy 'engine' is unknown"),
        ({"metric": "beauty"}, "metric 'beauty' is unknown"),
        ({"span": 1.0}, "span must be greater than 1"),
        ({"trials": 1}, "trials must be 2 or more"),
        ({"test_seeds": ()}, "test_seeds is empty"),
    ],
)
def test_impossible_searches_are_refused(fields, said):
    with pytest.raises(ConfigError, match=said):
        Tune(**fields)


def test_seeds_cannot_be_both(settings, tmp_path):
    with pytest.raises(ConfigError, match="seed 200 is among seeds and test_seeds"):
        Tune().run(Context("tune", tmp_path, (199, 200), settings))
