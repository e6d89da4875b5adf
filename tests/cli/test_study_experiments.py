"""Every experiment runs, small: one value per axis, two routers, two seeds, some dozens of requests."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gsim.cli.compose import groups
from gsim.cli.entry import main
from gsim.core import build
from gsim.study.experiments import read_experiments

EXPERIMENTS = read_experiments(set(groups()))
SWEEPS = [name for name, experiment in EXPERIMENTS.items() if "sweep" in experiment.values]


pytestmark = pytest.mark.usefixtures("empty_folder")


def small(name):
    """The command line of an experiment's small version: two policies, or two values of the last axis."""
    values = EXPERIMENTS[name].values
    words = [f"experiment={name}", "seeds=2", "hydra.launcher.n_jobs=1", "warmup_s=0", "figure.x=null"]
    axes = {field: entries for field, entries in values["sweep"].items() if not isinstance(entries[0], dict)}
    pair = "router" if "router" in values["sweep"] else list(axes)[-1]
    for field, entries in axes.items():
        if field != pair:
            words.append(f"{field}={entries[0]}")
    words.append("router=goodserve,random" if pair == "router" else f"{pair}={axes[pair][0]},{axes[pair][1]}")
    if values.get("until_s") is not None:
        # Long enough that something ends: what closed populations get done is counted by completion.
        words += ["until_s=40" if name in ("heavy_agents", "kv_offload") else "until_s=4", "drain_s=2"]
    return [*words, "trace.requests=40"] if "requests" in values.get("trace", {}) else words


@pytest.mark.parametrize("name", SWEEPS)
def test_every_sweep_runs_small(name, tmp_path):
    assert main(small(name)) == 0
    table = pd.read_csv(tmp_path / "results" / name / "results.csv")
    assert len(table) == 2
    assert (table[["completed", "rejected", "failed", "cut"]].sum(axis=1) == table["requests"]).all()
    assert (tmp_path / "results" / name / f"{name}.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", SWEEPS)
def test_every_sweep_has_a_question_and_a_small_version(name):
    experiment = EXPERIMENTS[name]
    assert experiment.question.endswith("?")
    assert experiment.values["small"]


#: Swept values at which what is swept is switched off. No run of ``monitor_interval`` lasts a minute.
SWITCHED_OFF = {
    "dynamics.factor": 1,
    "predictor": "uniform_random",
    "predictor.error": 0,
    "rectifier": "none",
    "rectifier.interval_s": 60,
    "rectifier.max_target_risk": 1,
    "router.margin_fraction": 0,
}


@pytest.mark.parametrize("name", SWEEPS)
def test_every_sweep_has_a_control(name):
    """Something to hold answers against: what is swept, switched off, or a policy that neither predicts nor moves."""
    experiment = EXPERIMENTS[name]
    axes = experiment.values["sweep"]
    switched_off = [field for field, off in SWITCHED_OFF.items() if off in axes.get(field, ())]
    moved = experiment.groups.get("rectifier") != "none"
    blind = [entry for entry in axes.get("router", ()) if not moved and is_blind(entry)]
    assert switched_off or blind


def is_blind(entry):
    """This entry of a router axis predicts and estimates nothing, and moves nothing."""
    fields = entry if isinstance(entry, dict) else {"router": entry}
    needs = getattr(build("router", fields["router"]), "needs", frozenset())
    return fields.get("rectifier", "none") == "none" and not needs & {"prediction", "estimates"}


@pytest.mark.parametrize("entry", ["fastest", {"router": "random", "rectifier": "risk_monitor"}, "goodserve"])
def test_what_predicts_or_moves_is_no_control(entry):
    assert not is_blind(entry)


def test_latency_grows_with_the_batch_and_shrinks_with_the_gpu(tmp_path):
    assert main(["experiment=latency_vs_batch", "batch_sizes=[1,8,64]"]) == 0
    table = pd.read_csv(tmp_path / "results" / "latency_vs_batch" / "latency_vs_batch.csv")
    for _, rows in table.groupby("gpu"):
        assert rows["mean_e2el_ms"].is_monotonic_increasing
        assert rows["output_throughput"].is_monotonic_increasing
    single = table[table["batch"] == 1].set_index("gpu")["mean_e2el_ms"]
    assert single.idxmin().startswith("H800")


def test_capacity_finds_where_the_share_or_the_level_is_lost(tmp_path, capsys):
    alike = ["slo.seconds=4", "trace.requests=null", "trace.duration_s=10", "warmup_s=4", "seeds=1"]
    words = ["experiment=capacity", "policies=[fastest]", "targets=[0.5]", "resolution=0.2", "hydra.launcher.n_jobs=1"]
    assert main([*words, *alike, "lowest_rps=10"]) == 0
    row = pd.read_csv(tmp_path / "results" / "capacity" / "capacity.csv").iloc[0]
    assert row["capacity_rps_low"] != row["capacity_rps_low"] or row["capacity_rps_low"] >= 0
    capsys.readouterr()
    for rate, carried in ((row["capacity_rps"], True), (row["next_rps_tried"], False)):
        words = ["router=fastest", "rectifier=none", f"trace.rate_per_s={rate}", f"name=check{carried}"]
        assert main([*words, *alike]) == 0
        found = pd.read_csv(tmp_path / "results" / f"check{carried}" / "results.csv").iloc[0]
        drifts = str(found["stationary"]).lower() == "false"
        assert bool(found["attainment"] >= 0.5 and not drifts) is carried


def test_an_unknown_figure_metric_is_named(capsys):
    assert (
        main(
            ["router=random,round_robin", "figure.y=[luck]", "trace.requests=20", "seeds=1", "hydra.launcher.n_jobs=1"]
        )
        == 1
    )
    assert "figure.y 'luck' is no metric" in capsys.readouterr().err
    assert not list(Path("results").rglob("*.parquet")), "it is said before anything is computed"


def test_a_metric_that_runs_have_not_is_no_panel(capsys):
    words = ["router=random,round_robin", "figure.y=[session_goodput_rps,handed_over]", "trace.requests=20", "seeds=1"]
    assert main([*words, "hydra.launcher.n_jobs=1"]) == 0
    assert "attainment by all" in capsys.readouterr().out


def test_the_cheapest_pool_holds_and_no_cheaper_one_does(tmp_path):
    words = ["experiment=cheapest_pool", "most_instances=2", "winners=1", "load_rps=10", "trace.requests=60"]
    assert main([*words, "warmup_s=0", "seeds=2", "hydra.launcher.n_jobs=1", "target=0.9"]) == 0
    table = pd.read_csv(tmp_path / "results" / "cheapest_pool" / "cheapest_pool.csv")
    assert table["usd_per_hour"].is_monotonic_increasing
    held = table[table["holds"]]
    assert len(held) >= 1
    assert (held["attainment"] >= 0.9).all()
    assert not table[table["usd_per_hour"] < held["usd_per_hour"].min()]["holds"].any()


def test_the_cheapest_pool_pays_for_every_card_of_a_deployment(tmp_path):
    words = ["experiment=cheapest_pool", "profiles=[h800-llama-3.1-70b-tp4,a40-llama-3.1-70b-tp8]", "most_instances=1"]
    few = ["load_rps=0.5", "trace.requests=10", "winners=2", "slo.seconds=60", "warmup_s=0", "seeds=1", "target=0.5"]
    assert main([*words, *few, "hydra.launcher.n_jobs=1"]) == 0
    table = pd.read_csv(tmp_path / "results" / "cheapest_pool" / "cheapest_pool.csv").set_index("pool")
    # Four cards of 2.70 and eight of 0.40 USD an hour.
    assert table["usd_per_hour"].to_dict() == {
        "1 A40 x8": pytest.approx(3.2),
        "1 H800-80G x4": pytest.approx(10.8),
    }
    assert table["cards"].to_dict() == {"1 A40 x8": 8, "1 H800-80G x4": 4}
