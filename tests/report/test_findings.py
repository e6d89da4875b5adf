"""What is said of a sweep: levels, knees, who is told from whom; and the figure that shows it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from gsim.report.findings import compared_metrics, drift_sentences, knee_sentences, sweep_findings
from gsim.report.sweep_figure import sweep_figure
from gsim.report.table import interval_text, sweep_table
from gsim.study.knees import crossing, knees
from gsim.study.results import compare
from gsim.study.steadiness import steadiness

RATE = "trace.rate_per_s"
SEEDS = 5


@dataclass(frozen=True)
class FakeCell:
    """A cell made by hand; it is its own grid cell too."""

    label: str
    point: dict[str, Any]
    columns: dict[str, Any]
    seeds: tuple[int, ...] = tuple(range(SEEDS))
    summaries: tuple[Any, ...] = field(default=(), compare=False)

    @property
    def cell(self):
        return self

    def metric(self, name):
        return np.array(self.columns.get(name, [math.nan] * SEEDS), dtype=float)


def cell(label, load, attainment, growth=0.0, axis=RATE, sessions=False, **point):
    """Shares scatter by 0.002 over the seeds, by a little more for later letters, so that no two policies are equally
    far apart in all of them; growth (per second) is told over a window of 100 s of a level of 50."""
    scatter = np.array([-0.002, -0.001, 0.0, 0.001, 0.002]) * (1.0 + 0.02 * (ord(label[0]) - ord("a")))
    shares = np.clip(attainment + scatter, 0, 1)
    grows = growth + scatter
    columns = {
        "attainment": shares,
        "goodput_rps": shares * load,
        "requests": [1000.0] * SEEDS,
        "growth_requests_per_s": grows,
        "requests_drift": grows * 100.0 / 50.0,
        "latency_drift": grows,
        "attainment_first_half": shares,
        "attainment_second_half": shares,
    }
    if sessions:
        columns |= {"session_goodput_rps": shares * load / 10, "session_attainment": shares}
    return FakeCell(label, {axis: float(load), **point}, columns, summaries=({"metrics": columns},))


def study(**policies):
    """``a=[(10, 0.99, 0.0), ...]``: load, attainment, growth per second."""
    loads = [load for load, *_ in next(iter(policies.values()))]
    rows = {label: {load: rest for load, *rest in points} for label, points in policies.items()}
    return [cell(label, load, *rows[label][load]) for load in loads for label in policies]


MIXED = study(
    a=[(10, 0.998, 0.0), (20, 0.97, 0.0), (30, 0.90, 0.3), (40, 0.6, 3.1)],
    b=[(10, 0.998, 0.0), (20, 0.99, 0.0), (30, 0.97, 0.0), (40, 0.8, 0.6)],
)


def test_each_cell_has_a_verdict():
    assert [steadiness(one).stationary for one in MIXED] == [True] * 4 + [False, True, False, False]
    assert steadiness(MIXED[4]).grows


def test_beyond_capacity_is_said_with_its_growth():
    said = drift_sentences(MIXED)
    assert said[0].startswith("offered load 30 requests/s: beyond capacity")
    assert "grows per second by: a 0.300" in said[0]
    assert "beyond the capacity of every policy" in said[1]
    assert "grows by 0.600 (b) to 3.10 per second (a)" in said[1]
    assert len(said) == 2


def test_a_load_below_one_that_is_carried_is_not_beyond_capacity():
    cells = study(a=[(10, 0.998, 0.6), (20, 0.97, 0.0)], b=[(10, 0.998, 0.0), (20, 0.99, 0.0)])
    (said,) = drift_sentences(cells)
    assert "beyond" not in said
    assert "no level: a (requests in the system grow by 0.6 per second, though 20 is carried" in said


def test_growth_of_a_hundredth_of_what_arrives_is_no_level_but_not_beyond_capacity():
    cells = study(a=[(10, 0.998, 0.6)], b=[(10, 0.998, 0.0)])
    cells[0].columns["arrived_rps"] = [60.0] * SEEDS
    assert drift_sentences(cells) == [
        "offered load 10 requests/s: no level: a (requests in the system grow by 0.6 per second)"
    ]
    cells[0].columns["arrived_rps"] = [10.0] * SEEDS
    assert "beyond capacity" in drift_sentences(cells)[0]


def test_what_cannot_be_said_names_who_and_where():
    quiet = {"requests_drift": [math.nan] * SEEDS, "latency_drift": [math.nan] * SEEDS}
    unknown = [FakeCell(one.label, one.point, one.columns | quiet) for one in MIXED[:4]]
    assert drift_sentences(unknown) == ["whether there is a level cannot be said: nothing was recorded over time"]
    wild = {"latency_drift": [-0.8, 0.8, 0.3, -0.5, 0.4]}
    mixed = [MIXED[0], FakeCell("b", MIXED[1].point, MIXED[1].columns | wild), *MIXED[2:4]]
    (said,) = drift_sentences(mixed)
    assert "is not excluded" in said
    assert said.endswith("b at offered load 10 requests/s")


def test_goodput_below_the_knee_is_nobodys_merit():
    # The same attainment, but one policy is asked more: more goodput, and nothing is said to be ahead.
    cells = study(a=[(10, 0.99, 0.0), (20, 0.99, 0.0)], b=[(10, 0.99, 0.0), (20, 0.99, 0.0)])
    for one in cells:
        one.columns["goodput_rps"] = one.columns["goodput_rps"] + (1.0 if one.label == "a" else 0.0)
    said = sweep_findings(cells, compare(cells), ["goodput_rps", "attainment"], "by_session")
    assert said == ["in time: offered load 10, 20 requests/s: no policy can be told from another"]


def test_only_levels_are_compared():
    said = sweep_findings(MIXED, compare(MIXED), ["goodput_rps"], "by_session")
    assert said == [
        "in time: offered load 10 requests/s: no policy can be told from another",
        "in time: offered load 20 requests/s: best is b (0.990), ahead of every other by 0.020 or more",
        "in time: offered load 30 requests/s: only b has a level",
    ]
    single = sweep_findings(MIXED, compare(MIXED), ["goodput_rps"], "by_arrival")
    assert "of this window alone" in single[-1]
    assert "best is b (0.800)" in single[-1]


def test_sessions_and_closed_populations_are_compared_by_both():
    open_ = [cell(label, 10, 0.99, sessions=True) for label in "ab"]
    assert compared_metrics(open_, ["goodput_rps"]) == ["attainment", "session_goodput_rps"]
    closed = [cell(label, 40, share, axis="trace.agents") for label, share in (("a", 0.99), ("b", 0.9))]
    said = sweep_findings(closed, compare(closed), ["goodput_rps"], "by_completion")
    assert said[0] == "in time: agents 40: best is a (0.990), ahead of every other by 0.090 or more"
    assert said[1].startswith("goodput: agents 40: best is a")
    assert "asks again when it is answered" in said[2]
    assert compared_metrics(open_, ["mean_e2el_ms"]) == ["mean_e2el_ms"]


def test_the_lower_latency_is_the_better():
    cells = study(a=[(10, 0.9, 0.0)], b=[(10, 0.9, 0.0)])
    for one in cells:
        one.columns["mean_e2el_ms"] = np.arange(5) * (1.0 if one.label == "a" else 1.1) + (
            100.0 if one.label == "a" else 200.0
        )
    assert sweep_findings(cells, compare(cells), ["mean_e2el_ms"])[0].startswith(
        "Mean E2E latency (ms): offered load 10 requests/s: best is a (102"
    )


def test_knees_lie_between_the_last_level_and_the_next_load():
    steady = study(
        a=[(10, 0.998, 0.0), (20, 0.97, 0.0), (30, 0.90, 0.0), (40, 0.6, 3.1)],
        b=[(10, 0.998, 0.0), (20, 0.99, 0.0), (30, 0.97, 0.0), (40, 0.8, 0.0)],
    )
    a, b = knees(steady, RATE)
    assert (a.knee, a.beyond) == (20, 30)
    assert a.crossing.low < 20 + 10 * 0.02 / 0.07 < a.crossing.high
    assert (b.knee, b.beyond) == (30, 40)
    assert b.crossing.mean == pytest.approx(30 + 10 * 0.02 / 0.17, rel=1e-3)
    assert a.row("e", RATE)["knee"] == 20
    (said,) = knee_sentences([a, b], RATE)
    assert said.index("b 31.2") < said.index("a 22.9")


def test_nothing_is_interpolated_towards_a_load_without_a_level():
    # Attainment beyond capacity falls with the window, and the crossing fell with it.
    a, b = knees(MIXED, RATE)
    assert [(one.knee, one.beyond) for one in (a, b)] == [(20, 30), (30, 40)]
    assert math.isnan(a.crossing.mean)
    assert "the next load has no level" in a.said
    assert knee_sentences([a, b], RATE)[0].endswith("b 30 to 40, a 20 to 30")


def test_a_knee_outside_of_what_was_tried_is_said_so():
    cells = study(a=[(10, 0.99, 0.0), (20, 0.99, 0.0)], b=[(10, 0.9, 0.0), (20, 0.8, 0.0)])
    above, below = knees(cells, RATE)
    assert (above.knee, above.said) == (20, "above the highest load tried")
    assert math.isnan(above.beyond)
    assert math.isnan(below.knee)
    assert below.beyond == 10
    assert knee_sentences([below, above], RATE)[0].endswith("a above 20, b below 10")


def test_attainment_need_not_fall_with_load():
    (one,) = knees(study(a=[(10, 0.8, 0.0), (20, 0.97, 0.0), (30, 0.5, 0.0)]), RATE)
    assert (one.knee, one.beyond) == (20, 30)
    assert "not monotone: it does not hold at 10" in one.said


def test_where_the_level_ends_first_there_is_no_crossing():
    (one,) = knees(study(a=[(10, 0.99, 0.0), (20, 0.97, 2.0)]), RATE)
    assert (one.knee, one.beyond) == (10, 20)
    assert math.isnan(one.crossing.mean)
    assert "the level ends before" in one.said


def test_knees_are_only_of_loads_and_per_facet():
    assert knees(MIXED, "slo.seconds") == []
    assert knees(MIXED, None) == []
    cells = [cell("a", load, share, slo=slo) for slo, share in ((1, 0.9), (2, 0.99)) for load in (10, 20)]
    assert [one.point["slo"] for one in knees(cells, RATE)] == [1, 2]


def test_crossing_by_hand():
    assert crossing([10, 20, 30], [0.99, 0.97, 0.93], 0.95) == pytest.approx(25)
    assert math.isnan(crossing([10, 20], [0.99, 0.97], 0.95))
    assert math.isnan(crossing([10, 20], [0.9, 0.8], 0.95))
    assert crossing([10, 20, 30], [0.9, 0.97, 0.9], 0.95) == pytest.approx(20 + 10 * 2 / 7)


def test_the_figure_shows_what_has_no_level_and_where_the_knees_are():
    figure = sweep_figure(MIXED, RATE, ["goodput_rps", "attainment"])
    goodput, attainment, panel = figure.axes
    faces = {line.get_markerfacecolor() for line in goodput.lines if line.get_marker() == "o"}
    assert "white" in faces
    assert attainment.get_ylim()[1] <= 1.05
    assert [text.get_text() for text in panel.get_yticklabels()] == ["b", "a"]
    told = " ".join(text.get_text() for text in figure.legends[0].get_texts())
    assert "hollow: no level" in told
    assert "95% in time" in told
    calm = sweep_figure(MIXED[:4], RATE, ["goodput_rps", "attainment"])
    assert "hollow" not in " ".join(text.get_text() for text in calm.legends[0].get_texts())


def test_tables_mark_what_has_no_level_and_stay_possible():
    text = sweep_table(MIXED, "attainment")
    assert "* no level" in text
    assert text.count("*") == 1 + 3
    assert "no level" not in sweep_table(MIXED[:4], "attainment")
    assert interval_text(0.999, 0.98, 1.0) == "0.999 [0.980, 1.00]"
    assert interval_text(10.0, 9.0, 11.0) == "10.0 ±1.00"
    assert interval_text(math.nan, math.nan, math.nan) == "-"


def test_a_sweep_records_its_drifts_and_says_what_has_a_level(tmp_path, monkeypatch, capsys):
    import pandas as pd

    from gsim.cli.entry import main

    monkeypatch.chdir(tmp_path)
    words = ["router=fastest,random", "rectifier=none", "trace.rate_per_s=20,150", "seeds=3", "hydra.launcher.n_jobs=1"]
    assert main([*words, "trace.requests=600", "warmup_s=1", "out=r", "slo.seconds=6", "predictor=constant"]) == 0
    table = pd.read_csv("r/results.csv")
    beyond = table[table["trace.rate_per_s"] == 150]
    # Twice what the pool carries, but for ten seconds from empty: it may be filling, and no level is claimed.
    assert not beyond["stationary"].eq(True).any()
    assert beyond["not_stationary_because"].str.contains("a warm-up of 1 s is shorter than the mean stay").all()
    assert (beyond["growth_requests_per_s_low"] > 0).all()
    assert "whether there is a level cannot be said" in capsys.readouterr().out
    assert {"policy", "knee", "next_load_tried", "said"} <= set(pd.read_csv("r/knees.csv").columns)
    for low, mean, high in zip(table["attainment_low"], table["attainment"], table["attainment_high"], strict=True):
        assert 0 <= low <= mean <= high <= 1
