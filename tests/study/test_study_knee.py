"""The knee: found by bisection, and what a sweep makes of it."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import yaml

from gsim.cli.entry import main
from gsim.core import ConfigError
from gsim.study.knee import Knee, placed
from gsim.study.rate_search import RateSearch

SMALL = ["trace.requests=80", "warmup_s=0", "seeds=2", "hydra.launcher.n_jobs=1", "rectifier=none", "slo.seconds=4"]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("edge", [0.5, 1.0, 3.3, 40.0, 99.0, 1000.0])
def test_the_search_finds_the_edge_and_never_floods_the_pool(edge):
    tried = []

    def attainment(rate):
        tried.append(rate)
        return 1.0 if rate <= edge else 0.5

    found = RateSearch(attainment, 1.0, 100.0, 0.01).highest(0.9)
    if edge < 1.0:
        assert found == 0.0
    else:
        assert found <= min(edge, 100.5) * (1 + 1e-9)
        assert found >= min(edge, 100.0) / 1.02
    assert max(tried) <= max(2.1 * edge, 1.0)
    assert len(tried) == len(set(tried)) <= 2 * math.log2(100) + 7


def test_targets_share_what_was_simulated():
    tried = []
    search = RateSearch(lambda rate: tried.append(rate) or 1.0 - rate / 100.0, 1.0, 100.0, 0.02)
    strict, loose = search.highest(0.9), search.highest(0.5)
    assert strict == pytest.approx(10.0, rel=0.03)
    assert loose == pytest.approx(50.0, rel=0.03)
    assert len(tried) == len(set(tried))


def test_rates_replace_the_axis_where_it_stands():
    knee = Knee(at=(0.5, 1.0, 1.25))
    sweep = {"slo.seconds": [4], "trace.rate_per_s": [1], "router": ["random"]}
    assert list(placed(sweep, knee, 80.04)) == list(sweep)
    assert placed(sweep, knee, 80.04)["trace.rate_per_s"] == [40.0, 80.0, 100.0]
    assert list(placed({"router": ["random"]}, knee, 80.0)) == ["trace.rate_per_s", "router"]


def test_a_sweep_around_the_knee_says_its_rates_and_can_be_repeated(tmp_path, capsys):
    words = ["experiment=goodput_vs_rps_paper", "router=fastest,random", "bound=false", *SMALL]
    around = ["knee.at=[0.5,1]", "knee.policy=fastest", "knee.target=0.9", "knee.resolution=0.1"]
    assert main([*words, *around, "out=found"]) == 0
    assert "the knee (90% in time under fastest) is at" in capsys.readouterr().err
    config = yaml.safe_load((tmp_path / "found" / "config.yaml").read_text())
    rates = config["sweep"]["trace.rate_per_s"]
    assert rates == Knee(at=(0.5, 1.0)).rates(config["knee"]["rps"])
    table = pd.read_csv("found/results.csv").set_index(["router", "trace.rate_per_s"])
    assert set(table.index.get_level_values(1)) == set(rates)
    assert table["attainment"]["fastest", rates[1]] >= 0.8
    assert "is at" in (tmp_path / "found" / "findings.txt").read_text().splitlines()[0]
    # Again: nothing is searched for, nothing is simulated.
    assert main([*words, *around, "out=found"]) == 0
    said = capsys.readouterr().err
    assert "the knee" not in said
    assert "0 runs computed" in said
    # The rates as they were found, given by hand, are the same runs.
    assert main([*words, f"trace.rate_per_s={rates[0]},{rates[1]}", "out=found"]) == 0
    assert "0 runs computed" in capsys.readouterr().err
    # A rate on the command line wins over the knee.
    assert main([*words, *around, "trace.rate_per_s=30", "out=fixed"]) == 0
    assert "rate_per_s: 30.0" in (tmp_path / "fixed" / "config.yaml").read_text()
    assert len(pd.read_csv("fixed/results.csv")) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"at": (0.0,)}, "knee.at must be multiples"),
        ({"target": 1.2}, "knee.target"),
        ({"lowest_rps": 5.0, "highest_rps": 2.0}, "knee.lowest_rps"),
        ({"resolution": 0.9}, "knee.resolution"),
        ({"rps": -1.0}, "knee.rps"),
    ],
)
def test_a_senseless_knee_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Knee(**fields)


def test_a_pool_without_a_knee_is_named(capsys):
    words = ["router=random,round_robin", "knee.at=[1]", "knee.policy=always_first", "knee.lowest_rps=20", *SMALL]
    assert main([*words, "slo.seconds=2"]) == 1
    assert "does not bring 95% in time even at 20 requests/s" in capsys.readouterr().err
