"""``gsim.sweep(experiment=NAME)``: the cells of the command line; and what results say of levels."""

from __future__ import annotations

import pandas as pd
import pytest

import gsim
from gsim.cli.cells import grid
from gsim.cli.compose import compose, hydra_session, register_schema
from gsim.core import ConfigError
from gsim.library.experiment import experiment_of
from gsim.library.given import Given
from gsim.library.grid import grid_of
from gsim.report.comparing import compare_command
from gsim.report.loading import ResultsFolder
from gsim.report.policy_colours import colour_places
from gsim.report.table import sweep_table
from gsim.run.settings import read_seeds
from gsim.study.figure import new_figure

OWN = """
trace: {requests: 30, rate_per_s: 40}
rectifier: none
seeds: 2
sweep:
  trace.rate_per_s: [40, 60, 80]
  router: [least_load, {label: Chance, router: random}]
figure: {x: trace.rate_per_s, y: [attainment]}
small: {seeds: 1, trace.requests: 15, trace.rate_per_s: "40,60"}
"""


@pytest.fixture
def own_experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.yaml").write_text(OWN)


@pytest.mark.parametrize("name", ["goodput_vs_rps", "predictor_swap"])
def test_an_experiment_has_the_cells_of_the_command_line(name):
    register_schema()
    with hydra_session() as hydra:
        words = [f"experiment={name}"]
        theirs = grid(hydra, compose(hydra, words)[0], words).cells
    asked = experiment_of(name, small=False)
    ours = grid_of(asked.grid, Given().but(asked.values), read_seeds(asked.seeds), asked.compare).cells
    assert [(cell.label, cell.point, cell.seeds) for cell in ours] == [(c.label, c.point, c.seeds) for c in theirs]
    assert [cell.settings.plain() for cell in ours] == [cell.settings.plain() for cell in theirs]


def test_an_experiment_is_swept_small_and_changed(own_experiment):
    results = gsim.sweep(experiment="mine", small=True, router={"name": "random"}, slo={"seconds": 3})
    assert results.table("attainment").columns.tolist() == [40, 60]
    assert results.table("attainment").index.tolist() == ["least_load", "Chance"]
    assert (results.config["seeds"], results.config["name"]) == ([0], "mine")
    assert set(results.requests["slo_s"]) == {3.0}
    assert len(results.requests) == 4 * 15
    assert results.shown == ["attainment"]
    fixed = gsim.sweep({"router": ["random"]}, experiment="mine", small=True, **{"trace.requests": 5})
    assert fixed.table("attainment").shape == (1, 2)
    assert len(fixed.requests) == 2 * 5


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"experiment": "goodput_vs_rsp"}, "did you mean goodput_vs_rps"),
        ({"experiment": "capacity"}, "in a way of its own; run python -m gsim experiment=capacity"),
        ({"small": True}, "only an experiment has a small version"),
    ],
)
def test_what_is_no_grid_of_runs_is_refused(said, why):
    with pytest.raises(ConfigError, match=why):
        gsim.sweep(**said)


def results_of(tmp_path, drift):
    """Two policies at two rates, three seeds: ``steady`` has a level, the other as ``drift`` says per seed."""
    rows = []
    for rate in (10.0, 20.0):
        for seed in range(3):
            common = {"experiment": "x", "trace.rate_per_s": rate, "router": "r", "rectifier": "none", "seed": seed}
            flat = {"attainment": 0.99, "requests": 1000, "cut": 0, "arrived_rps": rate, "mean_e2el_ms": 1000.0}
            window = {"window_start_s": 100.0, "window_until_s": 400.0, "growth_sessions_per_s": 0.0}
            for policy, values in (("steady", (0.0, 0.001, -0.001)), ("other", drift)):
                drifts = dict.fromkeys(("requests_drift", "latency_drift", "sessions_drift"), values[seed])
                growth = {"growth_requests_per_s": values[seed] * 10}
                rows.append({**common, "policy": policy, **flat, **window, **drifts, **growth})
    columns = ["experiment", "trace.rate_per_s", "router", "rectifier", "policy", "seed"]
    frame = pd.DataFrame(rows)
    frame[[*columns, *(c for c in frame if c not in columns)]].to_csv(tmp_path / "runs.csv", index=False)
    (tmp_path / "config.yaml").write_text("{name: x, figure: {x: trace.rate_per_s, y: [attainment]}}")
    return ResultsFolder(tmp_path)


@pytest.mark.parametrize(
    ("drift", "word", "sign"),
    [((0.5, 0.6, 0.55), "no level", "*"), ((-0.9, 1.2, 0.1), "undecided", "?"), ((0.0, 0.001, 0.0), "level", "")],
)
def test_a_level_is_a_word_and_a_sign(tmp_path, drift, word, sign):
    results = results_of(tmp_path, drift)
    assert results.levels.loc["steady"].tolist() == ["level", "level"]
    assert results.levels.loc["other"].tolist() == [word, word]
    text = sweep_table(results.cells, "attainment")
    ends = [cell.rstrip()[-1:] for cell in text.splitlines()[-1].split("0.990")[1:]]
    assert all((end == sign) if sign else end.isdigit() for end in ends)
    assert ("whether there is a level cannot be said" in text) == (sign == "?")
    assert ("no level: beyond capacity" in text) == (sign == "*")
    knees = results.knees.set_index("policy")["knee"]
    assert knees["steady"] == 20.0
    assert (knees["other"] == 20.0) == (word != "no level")


def test_two_that_are_compared_have_their_signs(tmp_path):
    results_of(tmp_path, (0.5, 0.6, 0.55))
    said = compare_command([f"{tmp_path}:steady", f"{tmp_path}:other", "attainment"])
    row = next(line for line in said.splitlines() if line.startswith("10 "))
    assert row.split()[2:4] == ["0.990", "0.990*"]
    assert "* no level: beyond capacity, or not steady" in said.splitlines()
    assert "? whether" not in said


def test_a_policy_has_its_colour_whoever_is_beside_it():
    assert colour_places(["least_load", "GoodServe"])["GoodServe"] == colour_places(["goodserve", "mine"])["goodserve"]
    many = ["mine", "goodserve", "GoodServe + x", "fastest", *map(str, range(10))]
    places = colour_places(many)
    assert sorted(places.values()) == list(range(14))
    assert list(places) == many


def test_a_notebook_shows_a_figure_without_pyplot():
    DisplayFormatter = pytest.importorskip("IPython.core.formatters").DisplayFormatter  # noqa: N806

    figure, axes = new_figure(2)
    axes[0].plot([0, 1], [0, 1])
    shown, _ = DisplayFormatter().format(figure)
    assert shown["image/png"].startswith(b"\x89PNG")
