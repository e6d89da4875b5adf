"""The guide of docs/calibration.md, end to end: a server, its profile, a pool of unlike instances, its routers."""

from __future__ import annotations

import pandas as pd
import pytest
from fake_engine import FakeEngine, FakeServer, InProcess, asked_of, run_virtually

from gsim.calibration.__main__ import main as calibration
from gsim.calibration.measure import measure
from gsim.calibration.report import report_folder
from gsim.cli.entry import main as gsim
from gsim.core import Batch, Chunk
from gsim.latency import load_profile


def test_from_a_server_to_a_routing_experiment(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "results" / "card"
    asked = asked_of(out, gpu="card", max_concurrency=17, max_context_tokens=1100, max_repeats=2)
    run_virtually(measure(asked, InProcess(FakeServer(FakeEngine()))))
    report_folder(out)

    assert calibration(["scale", f"profile={out}/profile.yaml", "speeds=[1,2,4]"]) == 0
    names = [path.split("/")[-1].removesuffix(".yaml") for path in capsys.readouterr().out.split()]
    assert names == ["card-fake-model-x1", "card-fake-model-x2", "card-fake-model-x4"]
    measured, fast = load_profile(out / "profile.yaml"), load_profile(names[2])
    for batch in (Batch((), 8, 8 * 500, 500), Batch((Chunk(200, 64),), 0, 0, 0), Batch((Chunk(100, 0),), 4, 900, 300)):
        ratio = measured.latency.iteration_s(batch) / fast.latency.iteration_s(batch)
        assert ratio == pytest.approx(4.0, rel=1e-3)
    assert "divided by 4" in fast.provenance.basis
    assert "no such card was measured" in fast.provenance.uncertainty

    pool = ", ".join(f"{{profile: {name}}}" for name in names)
    study = [
        "experiment=goodput_vs_rps",
        f"pool.instances=[{pool}]",
        "router=random,goodserve",
        "trace=paper",
        "trace.requests=60",
        "figure.y=goodput_rps",
    ]
    assert gsim([*study, "trace.rate_per_s=5,40", "seeds=2", "warmup_s=0", "out=study"]) == 0
    table = pd.read_csv(tmp_path / "study" / "results.csv")
    assert sorted(zip(table["trace.rate_per_s"], table["router"], strict=True)) == [
        (rate, router) for rate in (5, 40) for router in ("goodserve", "random")
    ]
    assert (table.loc[table["trace.rate_per_s"] == 5, "goodput_rps"] > 0.0).all()


def test_only_a_measured_kind_can_be_scaled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text("not: a profile")
    assert calibration(["scale", "profile=p.yaml", "speeds=[0]"]) == 2
    assert calibration(["scale", "profile=p.yaml"]) == 2
    assert calibration(["scale", "profile=missing.yaml"]) == 2
