"""Who should act: effects are paired differences from the first options, alone and beside the best of the others."""

from __future__ import annotations

import pandas as pd
import pytest

from gsim.cli.compose import compose, hydra_session, plain, register_schema
from gsim.core import ConfigError
from gsim.run.settings import Settings
from gsim.study.questions.who_should_act import WhoShouldAct, _measured, beside, effects, means, notes, starved
from gsim.study.questions.who_should_act_figure import figure


@pytest.fixture(scope="module")
def settings() -> Settings:
    register_schema()
    with hydra_session() as hydra:
        return Settings.read(plain(compose(hydra, ["rectifier=none"])[0]))


def test_a_run_is_measured_by_class_and_by_its_longest_waits(settings):
    study = WhoShouldAct(rates_per_s=(40.0,), singles_s=3.0, agents=(), policies=("edf",))
    one, *others = study._work(settings, (0,))
    assert (one.load, one.choice) == ("singles 40/s", ("least_request", "edf", "none"))
    assert one.settings["engine"]["policy"] == "edf"
    assert len(others) == 5
    row = _measured(one)
    assert row["worst_class_attainment"] == row["attainment_default"] == pytest.approx(row["attainment"])
    assert 0.0 < row["p999_wait_s"] <= row["longest_wait_s"] < row["mean_e2e_s"]


def runs() -> pd.DataFrame:
    """Two routers and two orders; the better order brings 10 points alone, and 2 beside the better router."""
    shares = {("a", "fcfs"): 0.60, ("a", "edf"): 0.70, ("b", "fcfs"): 0.90, ("b", "edf"): 0.92}
    others = {"worst_class_attainment": 0.5, "p999_wait_s": 3.0, "longest_wait_s": 4.0, "attainment_sql": 0.5}
    return pd.DataFrame(
        {"load": "heavy", "router": router, "policy": policy, "rectifier": "none", "seed": seed}
        # A little more scatter for the better ones: what differs equally in all seeds has no interval.
        | {"attainment": share + 0.001 * seed + 1e-4 * (seed - 1) * share, **others}
        for (router, policy), share in shares.items()
        for seed in (2, 0, 1)
    )


def test_what_is_left_is_told_beside_the_best_of_the_others():
    table = effects(runs()).set_index("option")
    assert table.loc["b", "alone"] == pytest.approx(0.30)
    assert table.loc["b", "left"] == pytest.approx(0.22)
    assert table.loc["edf", "alone"] == pytest.approx(0.10)
    assert table.loc["edf", "left"] == pytest.approx(0.02)
    assert set(table["best_choice"]) == {"b + edf + none"}
    (said,) = notes(effects(runs()))
    assert "b +30.0 (+30.0 to +30.0), left +22.0" in said
    assert "edf +10.0 (+10.0 to +10.0), left +2.0" in said
    assert [line.partition(":")[0] for line in starved(runs())] == ["fcfs", "edf"]
    assert means(runs())["attainment"].tolist() == pytest.approx([0.601, 0.701, 0.901, 0.921])


def test_an_option_is_also_told_beside_every_choice_of_the_others():
    table = beside(runs())
    assert table[["layer", "option", "router", "policy"]].fillna("").to_numpy().tolist() == [
        ["policy", "edf", "a", ""],
        ["router", "b", "", "fcfs"],
        ["router", "b", "", "edf"],
        ["policy", "edf", "b", ""],
    ]
    assert table["gain"].tolist() == pytest.approx([0.10, 0.30, 0.22, 0.02])
    assert table["attainment"].tolist() == pytest.approx([0.701, 0.901, 0.921, 0.921])


def test_the_figure_has_a_panel_per_load_and_two_bars_per_option():
    drawn = figure(effects(pd.concat([runs(), runs().assign(load="light")])))
    assert [axis.get_title(loc="left") for axis in drawn.axes] == ["heavy", "light"]
    assert len(drawn.axes[0].patches) == 4


@pytest.mark.parametrize("fields", [{"policies": ("lifo",)}, {"rectifiers": ()}, {"rates_per_s": (), "agents": ()}])
def test_what_cannot_be_asked_is_refused(fields):
    with pytest.raises(ConfigError, match=r"lifo|rectifiers|there must be a load"):
        WhoShouldAct(**fields)
