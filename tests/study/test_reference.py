"""The bound and the plan of whole runs, as studies use them."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from gsim.cli.compose import compose, hydra_session, plain, register_schema
from gsim.cli.entry import main
from gsim.core import ConfigError, GsimError
from gsim.run import planning
from gsim.run.cell import run, summary_of
from gsim.run.settings import Settings
from gsim.study import bounds, reference
from gsim.study.grid import Cell
from gsim.study.results import CellResult


@pytest.fixture(scope="module")
def base() -> Settings:
    """Sixty requests at once, with too little time for all of them."""
    register_schema()
    words = ["trace.requests=60", "trace.rate_per_s=200", "slo.seconds=3.2", "rectifier=none", "predictor=oracle"]
    with hydra_session() as hydra:
        return Settings.read(plain(compose(hydra, words)[0]))


def result_of(settings: Settings, point: float = 1.0) -> CellResult:
    summary = summary_of(settings, run(settings, 0), 0.0)
    return CellResult(Cell((), {"x": point}, settings, (0,)), (summary,), "policy", {"x": point})


@pytest.fixture(scope="module")
def results(base) -> list[CellResult]:
    names = ("ilp_plan", "goodserve", "least_load", "random")
    routers = [{"name": name} for name in names]
    routers[0]["evaluations"] = 60
    return [result_of(base.replace(router=router)) for router in routers]


def test_the_plan_is_between_the_routers_and_the_bound(base, results):
    plan, *online = (result.summaries[0]["metrics"]["good"] for result in results)
    assert max(online) <= plan <= bounds.bound_of(base, 0).goodput_requests < 60


def test_bound_plan_and_regret_become_metrics(results, tmp_path):
    extended = reference.with_bound(results, tmp_path)
    assert [r.label for r in extended] == [r.label for r in results]
    for before, after in zip(results, extended, strict=True):
        old, new = before.summaries[0]["metrics"], after.summaries[0]["metrics"]
        assert new["regret_to_bound"] == pytest.approx(new["upper_bound"] - old["goodput_rps"])
        assert new["regret_to_plan"] == pytest.approx(new["plan"] - old["goodput_rps"])
        assert new["upper_bound"] <= old["offered_rps"] * (1 + 1e-9)
        assert new["regret_to_bound"] >= 0.0
    assert extended[0].summaries[0]["metrics"]["regret_to_plan"] == 0.0
    # One bound for one load, kept on disk: the second time it is read.
    (kept,) = tmp_path.glob("bound-*.json")
    stamp = kept.stat().st_mtime_ns
    assert reference.with_bound(results, tmp_path)[1].summaries == extended[1].summaries
    assert kept.stat().st_mtime_ns == stamp


def test_without_a_plan_in_the_grid_there_is_no_plan_to_regret(results):
    metrics = reference.with_bound(results[1:2])[0].summaries[0]["metrics"]
    assert "upper_bound" in metrics
    assert "plan" not in metrics


def test_a_run_above_its_bound_is_an_error(results):
    lucky = dict(results[1].summaries[0])
    lucky["metrics"] = lucky["metrics"] | {"good": 61}
    with pytest.raises(GsimError, match="61 good requests are above the bound"):
        reference.with_bound([dataclasses.replace(results[1], summaries=(lucky,))])


def test_moves_are_those_that_the_scenario_allows(base):
    crash = {"name": "injected", "planned": [{"kind": "crash", "at_s": 1.0}]}
    slow = {"name": "injected", "planned": [{"kind": "slow", "at_s": 1.0}]}
    assert bounds.most_moves(base.scenario()) == 0
    monitor = base.replace(rectifier={"name": "risk_monitor", "max_moves": 3}, mechanism={"name": "token_ids"})
    assert bounds.most_moves(monitor.scenario()) == 3
    assert bounds.most_moves(base.replace(faults=slow).scenario()) == 0
    assert bounds.most_moves(base.replace(faults=crash).scenario()) > 10_000
    failing = base.replace(faults=crash | {"on_crash": "fail"})
    assert bounds.most_moves(failing.scenario()) == 0


def test_with_further_limits_the_simulator_judges(base):
    strict = base.replace(goodput="ttft:200", router={"name": "ilp_plan", "evaluations": 4, "starts": ["fastest"]})
    planned = planning.plan_of(strict, 0)
    replayed = int(strict.objective.met(run(strict, 0).requests).sum())
    assert len(planned.good) == replayed
    fastest = strict.replace(router={"name": "fastest"})
    assert replayed >= int(fastest.objective.met(run(fastest, 0).requests).sum())


def test_a_plan_cannot_start_from_itself(base):
    with pytest.raises(ConfigError, match="cannot start from itself"):
        planning.plan_of(base.replace(router={"name": "ilp_plan", "starts": ["ilp_plan"]}), 0)


def test_the_study_tables_bound_plan_and_routers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["experiment=optimality_gap", "seeds=2", "requests=60", "rates_per_s=[100]", "slos_s=[3.2]", "copies=[]"]
    assert main([*words, "evaluations=40", "routers=[fastest,random]", "hydra.launcher.n_jobs=1"]) == 0
    folder = tmp_path / "results" / "optimality_gap"
    table = pd.read_csv(folder / "optimality_gap.csv")
    assert list(table["axis"]) == ["rate", "slo"]
    assert (table["upper_bound"] >= table["plan"]).all()
    assert (table["plan"] >= table[["fastest", "random"]].max(axis=1)).all()
    assert set(table["best_router"]) <= {"fastest", "random"}
    times = pd.read_csv(folder / "solve_times.csv")
    assert (times["bound_s"] > 0).all()
    assert len(times) == 4
    assert (folder / "optimality_gap.png").stat().st_size > 10_000
