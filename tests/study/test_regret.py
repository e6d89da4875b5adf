"""Regret taken apart: levels of knowledge on a small load, and their differences by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from gsim.cli.compose import compose, hydra_session, plain, register_schema
from gsim.core import ConfigError
from gsim.run.settings import Settings
from gsim.study.questions.regret import LEVELS, Regret, figure, notes, taken_apart
from gsim.study.study import Context


def test_a_small_load_is_taken_apart(tmp_path):
    register_schema()
    with hydra_session() as hydra:
        settings = Settings.read(plain(compose(hydra, ["rectifier=none"])[0]))
    study = Regret(policies=("fastest", "goodserve"), rates_per_s=(90.0,), requests=25, agents=(), evaluations=4)
    found = study.run(Context("regret", tmp_path, (0,), settings))
    table = found.tables["regret"]
    assert list(table["policy"]) == ["fastest", "goodserve"]
    for row in table.to_dict("records"):
        # Nothing is above the bound, and the plan is no worse than a policy that it may start from.
        assert all(row[level] <= row["bound"] + 1e-9 for level in LEVELS)
        assert row["true_lengths"] <= row["plan"] + 1e-9
    assert set(found.figures) == {"regret"}


def test_costs_are_differences_seed_by_seed():
    seeds = {0: (0.9, 0.8, 0.7), 1: (0.95, 0.9, 0.6)}
    runs = pd.DataFrame(
        {"load": "singles 60/s", "policy": "a", "seed": seed, "bound": 1.0, "plan": 0.97}
        | dict(zip(("true_lengths", "noisy", "stale"), shares, strict=True))
        for seed, shares in seeds.items()
    )
    row = taken_apart(runs).iloc[0]
    assert row["errors_cost"] == pytest.approx(0.075)
    assert row["age_costs"] == pytest.approx(0.2)
    assert row["online_costs"] == pytest.approx(0.045)
    assert row["age_costs_low"] < 0.2 < row["age_costs_high"]
    assert notes(taken_apart(runs)) == [
        "a: errors of length cost 7.5 points at most (singles 60/s), old telemetry cost 20.0 points at most "
        "(singles 60/s)"
    ]
    heights = [bar.get_height() for bar in figure(taken_apart(runs)).axes[0].patches]
    assert heights == pytest.approx([0.65, 0.2, 0.075, 0.045, 0.03])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"policies": ("psychic",)}, "policies: 'psychic' is unknown"),
        ({"policies": ()}, "policies is empty"),
        ({"agents": (7,)}, "agents: 7 is no case of frontier"),
        ({"stale_s": 0.0}, "stale_s above 0"),
    ],
)
def test_what_cannot_be_is_refused(fields, said):
    with pytest.raises(ConfigError, match=said):
        Regret(**fields)
