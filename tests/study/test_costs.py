"""Goodput per card and per dollar."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from gsim.cli.entry import main
from gsim.run.pool import InstanceGroup, PoolConfig
from gsim.study.costs import with_costs


def pool(profile: str, count: int) -> PoolConfig:
    return PoolConfig((InstanceGroup(profile, count),))


def test_an_instance_costs_all_of_its_cards() -> None:
    told = with_costs({"metrics": {"goodput_rps": 6.0}, "wall_s": 1.0}, pool("h800-llama-3.1-70b-tp4", 2))
    assert told["wall_s"] == 1.0
    metrics = told["metrics"]
    assert (metrics["cards"], metrics["usd_per_hour"]) == (8, pytest.approx(8 * 2.7))
    assert metrics["goodput_per_card"] == pytest.approx(6.0 / 8)
    assert metrics["goodput_per_usd"] == pytest.approx(6.0 * 3600 / (8 * 2.7))


def test_without_a_price_there_is_no_goodput_per_dollar(shared) -> None:
    folder = shared / "data" / "profiles" / "operator" / "rtx4090-llama-3.1-8b-tp1"
    metrics = with_costs({"metrics": {"goodput_rps": 6.0}}, pool(str(folder), 3))["metrics"]
    assert metrics["goodput_per_card"] == 2.0
    assert math.isnan(metrics["usd_per_hour"])
    assert math.isnan(metrics["goodput_per_usd"])


def test_results_have_both_columns(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["trace.requests=30", "trace.rate_per_s=20", "warmup_s=0", "seeds=2", "pool=uniform", "name=costs"]
    assert main([*words, "hydra.launcher.n_jobs=1"]) == 0
    for file in ("results.csv", "runs.csv"):
        table = pd.read_csv(tmp_path / "results" / "costs" / file)
        assert (table.goodput_per_card * 4).tolist() == pytest.approx(table.goodput_rps.tolist())
        assert (table.goodput_per_usd * table.usd_per_hour / 3600).tolist() == pytest.approx(table.goodput_rps.tolist())
