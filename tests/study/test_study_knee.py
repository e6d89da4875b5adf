"""The knee: found by bisection, and what a sweep makes of it."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import yaml

from gsim.cli.entry import main
from gsim.core import ConfigError
from gsim.run.settings import Settings
from gsim.study.knee import Knee, placed
from gsim.study.load_search import LoadSearch, Probe, enough, requests_for

SMALL = ["trace.requests=80", "warmup_s=0", "seeds=2", "hydra.launcher.n_jobs=1", "rectifier=none", "slo.seconds=4"]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def probe_of(attainment, steady=lambda rate: True, tried=None):
    """A probe of two seeds that differ by a percent; without a level the number in the system grows."""

    def probe(rate):
        if tried is not None:
            tried.append(rate)
        drift = 0.0 if steady(rate) else 0.9
        runs = [{"attainment": attainment(rate * factor), "latency_drift": drift} for factor in (0.995, 1.005)]
        return Probe(rate, tuple(runs))

    return probe


@pytest.mark.parametrize("edge", [0.5, 1.0, 3.3, 40.0, 99.0, 1000.0])
def test_the_search_finds_the_edge_and_never_floods_the_pool(edge):
    tried = []
    probe = probe_of(lambda rate: 1.0 if rate <= 1.01 * edge else 0.5, lambda rate: rate <= edge, tried)
    found = LoadSearch(probe, 1.0, 100.0, 0.01).highest(0.9)
    if edge < 1.0:
        assert found.rate_rps == 0.0
        assert "never reaches 90%" in found.said
    else:
        assert found.rate_rps <= min(edge, 100.5) * (1 + 1e-9)
        assert found.rate_rps >= min(edge, 100.0) / 1.02
    if edge == 1000.0:
        assert (found.beyond_rps, found.said) == (math.inf, "above the highest rate looked at")
    assert max(tried) <= max(2.1 * edge, 1.0)
    assert len(tried) == len(set(tried)) <= 2 * math.log2(100) + 7


def test_targets_share_what_was_simulated():
    tried = []
    search = LoadSearch(probe_of(lambda rate: max(0.0, 1.0 - rate / 100.0), tried=tried), 1.0, 100.0, 0.02)
    strict, loose = search.highest(0.9), search.highest(0.5)
    assert strict.rate_rps == pytest.approx(10.0, rel=0.03)
    assert loose.rate_rps == pytest.approx(50.0, rel=0.03)
    assert len(tried) == len(set(tried))
    rate, low, high = strict.interval
    assert 0 <= low <= rate <= high
    assert strict.by_seed == pytest.approx((10.0 / 0.995, 10.0 / 1.005), rel=1e-3)


def test_attainment_need_not_fall_with_load():
    # As an even spread over unlike cards does: worse at the lightest load than at a middling one.
    found = LoadSearch(
        probe_of(lambda rate: 0.78 if rate < 2 else 0.97 if rate <= 20 else 0.5), 0.5, 100.0, 0.05
    ).highest(0.95)
    assert found.rate_rps == pytest.approx(20.0, rel=0.06)
    assert "not carried at lower rates: 0.5" in found.said


def test_a_target_that_is_never_reached_is_an_answer():
    found = LoadSearch(probe_of(lambda rate: 0.9 if rate < 30 else 0.3), 0.5, 100.0, 0.05).highest(0.95)
    assert found.rate_rps == 0.0
    assert found.said == "never reaches 95% (90.0% at most, at 0.5 requests/s)"
    assert found.interval == (0.0, 0.0, 0.0)
    unsteady = LoadSearch(probe_of(lambda rate: 1.0, lambda rate: False), 0.5, 2.0, 0.5).highest(0.95)
    assert unsteady.said.startswith("never has 95% in time with a level (100.0% at 0.5 requests/s: latency grows")


def test_without_a_level_a_target_is_not_met():
    found = LoadSearch(probe_of(lambda rate: 1.0, lambda rate: rate < 10), 1.0, 100.0, 0.05).highest(0.95)
    assert found.rate_rps == pytest.approx(10.0, rel=0.06)
    assert "has no level" in found.said


def test_each_rate_has_requests_enough_for_the_share_asked():
    from gsim.cli.compose import compose, hydra_session, plain, register_schema

    register_schema()
    with hydra_session() as hydra:
        config, _ = compose(hydra, ["trace.requests=50", "warmup_s=2"])
    settings = Settings.read(plain(config))
    assert enough(settings, 10.0, 400).plain()["trace"]["requests"] == 420
    assert requests_for(0.99, 2) == 1000
    assert requests_for(0.5, 5) == 100
    timed = settings.replace(
        trace={"name": "paper", "rate_per_s": 9.0, "requests": None, "duration_s": 8.0}, until_s=8.0
    )
    slow = enough(timed, 0.5, 400)
    assert slow.plain()["trace"]["duration_s"] == slow.until_s == 802.0
    assert enough(timed, 1000.0, 400).until_s == 8.0


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
    assert "never reaches 95%" in capsys.readouterr().err
