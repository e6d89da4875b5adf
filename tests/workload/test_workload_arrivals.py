"""Arrival processes have the rate and the burstiness that they claim."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from gsim.core import ConfigError, TraceError
from gsim.workload.arrivals import ArrivalConfig

CURVE = "ts,rps\n0,1\n600,3\n1200,2\n"


def configs(folder: Path) -> dict[str, ArrivalConfig]:
    curve = folder / "curve.csv"
    curve.write_text(CURVE)
    return {
        "poisson": ArrivalConfig("poisson"),
        "gamma": ArrivalConfig("gamma", cv=3.0),
        "on_off": ArrivalConfig("on_off", on_s=10, off_s=20),
        "modulated": ArrivalConfig("modulated"),
        "clients": ArrivalConfig("clients"),
        "replayed": ArrivalConfig("replayed", curve_path=str(curve)),
    }


NAMES = ("poisson", "gamma", "on_off", "modulated", "clients", "replayed")


def until(config: ArrivalConfig, rate_per_s: float, end_s: float, seed: int) -> np.ndarray:
    taken = []
    for block in config.blocks(rate_per_s, np.random.default_rng(seed)):
        taken.append(block)
        if len(block) and block[-1] > end_s:
            break
    times = np.concatenate(taken)
    return times[times <= end_s]


@pytest.mark.parametrize("name", NAMES)
def test_mean_rate_from_the_start_on(tmp_path: Path, name: str) -> None:
    """The expected count in [0, T] is rate * T: no process starts with a burst or a pause."""
    config = configs(tmp_path)[name]
    counts = np.array([len(until(config, 4.0, 450.0, seed)) for seed in range(60)])
    expected = 4.0 * 450.0 if name != "replayed" else 4.0 * 450.0 / 2  # the curve's first window has half its mean
    assert abs(counts.mean() - expected) < 4 * counts.std() / sqrt(len(counts)) + 1


@pytest.mark.parametrize("name", NAMES)
def test_times_rise_and_repeat(tmp_path: Path, name: str) -> None:
    config = configs(tmp_path)[name]
    times = until(config, 5.0, 500.0, 3)
    assert (np.diff(times) >= 0).all()
    assert times[0] >= 0
    assert np.array_equal(times, until(config, 5.0, 500.0, 3))
    assert not np.array_equal(times[:50], until(config, 5.0, 500.0, 4)[:50])


@pytest.mark.parametrize("cv", [0.5, 1.0, 3.0])
def test_gamma_gaps_have_their_variation(cv: float) -> None:
    gaps = np.diff(until(ArrivalConfig("gamma", cv=cv), 10.0, 4000.0, 0))
    # The standard error of a coefficient of variation of n Gamma gaps is about cv * sqrt((1 + 3 cv^2) / 2n).
    assert abs(gaps.std() / gaps.mean() - cv) < 4 * cv * sqrt((1 + 3 * cv**2) / (2 * len(gaps)))


def dispersion(times: np.ndarray, window_s: float, end_s: float) -> float:
    counts = np.histogram(times, bins=np.arange(0.0, end_s + window_s / 2, window_s))[0]
    return float(counts.var(ddof=1) / counts.mean())


def test_modulation_gives_azure_conv_its_index_of_dispersion() -> None:
    end_s = 60.0 * 3000
    index = dispersion(until(ArrivalConfig("modulated"), 5.53, end_s, 0), 60.0, end_s)
    assert index == pytest.approx(1 + 5.53 * 60 * 0.21**2, rel=4 * sqrt(2 / 3000))
    assert index == pytest.approx(16, rel=0.15)
    poisson = dispersion(until(ArrivalConfig("poisson"), 5.53, end_s, 0), 60.0, end_s)
    assert poisson == pytest.approx(1, abs=4 * sqrt(2 / 3000))


def test_on_off_is_silent_most_of_the_time() -> None:
    times = until(ArrivalConfig("on_off", on_s=10, off_s=90), 5.0, 40_000.0, 1)
    counts = np.histogram(times, bins=np.arange(0.0, 40_001.0, 1.0))[0]
    # On-phases are Poisson of 50/s, so a silent second is (nearly always) one of an off-phase.
    assert (counts == 0).mean() == pytest.approx(0.9, abs=0.04)


def test_few_clients_send_most() -> None:
    weights = np.arange(1, 74) ** -1.16
    assert weights[:10].sum() / weights.sum() == pytest.approx(0.68, abs=0.01)
    assert dispersion(until(ArrivalConfig("clients"), 20.0, 20_000.0, 2), 60.0, 20_000.0) > 2


def test_replayed_counts_follow_the_curve(tmp_path: Path) -> None:
    times = until(configs(tmp_path)["replayed"], 10.0, 3600.0, 0)
    counts = np.histogram(times, bins=np.arange(0.0, 3601.0, 600.0))[0]
    expected = np.array([5.0, 15.0, 10.0, 5.0, 15.0, 10.0]) * 600
    assert (np.abs(counts - expected) < 4 * np.sqrt(expected)).all()


def test_the_recorded_day_is_replayed(shared: Path) -> None:
    curve = shared / "data/traces/servegen_deepseek_r1_rate_10min.csv.gz"
    times = until(ArrivalConfig("replayed", curve_path=str(curve)), 2.0, 86_400.0, 0)
    assert len(times) == pytest.approx(2 * 86_400, rel=4 / sqrt(2 * 86_400))
    counts = np.histogram(times, bins=np.arange(0.0, 86_401.0, 600.0))[0]
    # ServeGen: the busiest ten minutes have 2.7 times the mean.
    assert counts.max() / counts.mean() == pytest.approx(2.7, abs=0.15)


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        ("ts,rps\n0,1\n", "at least two rows"),
        ("ts,rps\n0,1\n600,-1\n", "rps must be in"),
        ("ts,rps\n0,1\n600,1\n700,1\n", "even steps"),
        ("ts,rps\n0,0\n600,0\n", "all rates are 0"),
        ("t,rps\n0,0\n", "no column 'ts'"),
    ],
)
def test_a_broken_curve_is_refused(tmp_path: Path, curve: str, reason: str) -> None:
    file = tmp_path / "curve.csv"
    file.write_text(curve)
    with pytest.raises(TraceError, match=reason):
        next(ArrivalConfig("replayed", curve_path=str(file)).blocks(1.0, np.random.default_rng(0)))


def test_wrong_options_are_refused() -> None:
    for fields, reason in (
        ({"name": "weibull"}, "must be one of poisson"),
        ({"name": "gamma", "on_s": 3.0}, "no parameter of 'gamma'"),
        ({"name": "gamma", "cv": -1.0}, "positive number"),
        ({"name": "replayed"}, "curve_path is needed"),
        ({"name": "clients", "cv_p90": 0.5}, "at least cv_median"),
    ):
        with pytest.raises(ConfigError, match=reason):
            ArrivalConfig(**fields)
