"""The frontier: its cases can be configured, and who is at the front is told from paired differences."""

from __future__ import annotations

import pandas as pd
import pytest

from gsim.cli.compose import compose, hydra_session, plain, register_schema
from gsim.core import ConfigError
from gsim.run.settings import Settings
from gsim.study import run_numbers
from gsim.study.questions.frontier import (
    Frontier,
    _Load,
    _measured,
    by_class,
    compared,
    figure,
    losses,
    notes,
    pairs,
    ranking,
)
from gsim.study.questions.frontier_cases import CASES, VARIANTS, changed, with_policy_named


@pytest.fixture(scope="module")
def settings() -> Settings:
    register_schema()
    with hydra_session() as hydra:
        return Settings.read(plain(compose(hydra, ["rectifier=none"])[0]))


def test_every_case_and_variant_can_be_configured(settings):
    for changes in CASES.values():
        assert changed(settings, changes).scenario().instances
    for policy in VARIANTS:
        assert with_policy_named(settings, policy).scenario().router
    assert with_policy_named(settings, "GoodServe").choices["rectifier"].name == "risk_monitor"
    assert with_policy_named(with_policy_named(settings, "GoodServe"), "fastest").choices["rectifier"].name == "none"
    marginal = with_policy_named(settings, "marginal").plain()
    assert marginal["estimator"]["prefill_of"] == "computed"
    six = changed(settings, CASES["six V100, one H800"]).scenario()
    assert [spec.profile.gpu for spec in six.instances] == ["V100-32G"] * 6 + ["H800-80G"]


def test_a_load_is_measured_by_class_and_longest_wait_and_never_twice(settings, tmp_path, monkeypatch):
    short = changed(settings, {"trace": {"rate_per_s": 40.0, "requests": 60}, "warmup_s": 0.0})
    policies = {name: with_policy_named(short, name).plain() for name in ("fastest", "least_load")}
    first, second = _measured(_Load("a", 0, policies, tmp_path))
    assert (first["policy"], second["policy"]) == ("fastest", "least_load")
    assert first["worst_class_attainment"] == pytest.approx(first["attainment"]), "there is one class"
    assert 0 < first["p50_e2e_s"] < first["longest_e2e_s"] < second["longest_e2e_s"]
    assert first["not_served"] == 0
    monkeypatch.setattr(run_numbers, "finish", None)
    again = _measured(_Load("a", 0, policies, tmp_path))
    assert pd.DataFrame(again).equals(pd.DataFrame([first, second])), "single requests have no session: NaN"
    with pytest.raises(TypeError):
        _measured(_Load("a", 1, policies, tmp_path))


def runs() -> pd.DataFrame:
    shares = {
        "easy": {"a": (0.99, 0.97), "b": (0.98, 0.98), "c": (0.50, 0.49)},
        "hard": {"a": (0.60, 0.70), "b": (0.80, 0.91), "c": (0.30, 0.40)},
    }
    others = {"goodput_rps": 1.0, "session_attainment": 1.0, "worst_class_attainment": 0.1, "p50_e2e_s": 1.0}
    return pd.DataFrame(
        {"case": case, "policy": policy, "seed": seed, "attainment": share, **others, "longest_e2e_s": 9.0 + seed}
        | {"not_served": 0.0, f"attainment of {case}": share}
        for case, policies in shares.items()
        for policy, values in policies.items()
        for seed, share in enumerate(values)
    )


def test_who_is_at_the_front_is_told_from_paired_differences():
    table = compared(runs())
    front = table.set_index(["case", "policy"])["at_the_front"]
    # b is ahead of a by 0.20 and 0.21; in the easy case by -0.01 and 0.01.
    assert front.to_dict() == {
        ("easy", "a"): True,
        ("easy", "b"): True,
        ("easy", "c"): False,
        ("hard", "a"): False,
        ("hard", "b"): True,
        ("hard", "c"): False,
    }
    behind = table.set_index(["case", "policy"])["behind"]
    assert behind["hard", "a"] == pytest.approx(0.205)
    assert table["longest_e2e_s"].tolist() == [10.0] * 6
    assert list(ranking(table).index) == ["b", "a", "c"]
    said = notes(table)
    assert said[0] == "b: at the front in 2 of 2 cases, 0.0 points behind on average, 0.0 at most"
    assert "never at the front: c" in said
    assert figure(table).axes


def test_one_seed_says_who_is_how_far_behind_and_not_who_is_ahead():
    one = runs().query("seed == 0")
    table = compared(one)
    assert table.set_index(["case", "policy"])["at_the_front"].dropna().to_dict() == {
        ("easy", "a"): True,
        ("hard", "b"): True,
    }
    said = notes(table)
    assert said[0] == "b: 0.5 points behind the best on average, 1.0 at most"
    assert said[-1] == "who is ahead cannot be said: one seed has no interval; three or more do"
    assert losses(pairs(one, "a"), "a") == []
    assert figure(table).axes


def test_the_first_is_set_against_each_of_the_others():
    against = pairs(runs(), "a")
    assert list(zip(against["case"], against["policy"], strict=True)) == [
        ("easy", "b"),
        ("easy", "c"),
        ("hard", "b"),
        ("hard", "c"),
    ]
    assert against["ahead"].tolist() == pytest.approx([0.0, 0.485, -0.205, 0.30])
    assert against["goodput_ahead"].tolist() == [0.0] * 4
    # Two seeds that are equally far apart have no interval.
    assert against["ahead_low"].isna().tolist() == against["ahead_high"].isna().tolist() == [False, False, False, True]
    told = against.dropna()
    assert (told["ahead_low"] <= told["ahead"]).all()
    assert (told["ahead"] <= told["ahead_high"]).all()
    assert losses(against, "a") == ["a is behind in 'hard': b (20.5 points, 14.1 to 26.9)"]
    assert losses(pairs(runs(), "b"), "b") == ["b is behind nobody anywhere, beyond the paired interval"]


def test_classes_are_told_where_they_are():
    rows = by_class(runs()).set_index(["case", "policy", "task"])
    assert list(rows.index) == [(case, policy, case) for case in ("easy", "hard") for policy in "abc"]
    assert rows["attainment"]["hard", "a", "hard"] == pytest.approx(0.65)
    assert rows["low"]["easy", "b", "easy"] == 0.98, "equal in both seeds"
    assert rows["low"]["hard", "a", "hard"] < 0.65 < rows["high"]["hard", "a", "hard"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"policies": ("fastest", "psychic")}, "policies: 'psychic' is unknown"),
        ({"cases": ("on the moon",)}, "cases: 'on the moon' is unknown; allowed: \"40 agents\", "),
        ({"policies": ("fastest",)}, "policies must be two or more"),
    ],
)
def test_what_is_not_there_is_refused(fields, said):
    with pytest.raises(ConfigError, match=said):
        Frontier(**fields)
