"""A day's rate curve, compressed: arrivals follow it, and the sessions stay what they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gsim.core import ConfigError, TraceError, build
from gsim.core.streams import Streams
from gsim.run.inputs import input_digests
from gsim.workload.arrivals import rate_curve
from gsim.workload.dynamics import RateCurve


def sessions(n: int):
    trace = build("trace", "paper", requests=n, rate_per_s=20.0)
    return list(trace.sessions(Streams(1), build("slo", "fixed")))


def test_the_shipped_day_is_a_day_with_its_peak_and_trough():
    rates, window_s = rate_curve("alibaba_r1_day")
    assert len(rates) * window_s == 86_400.0
    assert rates.mean() == pytest.approx(16.01, abs=0.01)
    assert rates.max() / rates.min() == pytest.approx(8.04, abs=0.05)


def test_arrivals_follow_the_curve_and_sessions_stay_what_they_were():
    curve = RateCurve(over_s=480.0)
    plain = sessions(9600)
    moved = list(curve.apply(iter(plain)))
    assert [s.jobs[0].output_tokens for s in plain] == [s.jobs[0].output_tokens for s in moved]
    at_s = np.array([s.arrival_s for s in moved])
    assert (np.diff(at_s) >= 0).all()
    assert all(s.arrival_s == s.jobs[0].request.arrival_s for s in moved)
    counts = np.histogram(at_s, np.linspace(0.0, 480.0, 49))[0]
    expected = 9600 / 48 * np.array(curve.rates())
    assert np.corrcoef(counts, expected)[0, 1] > 0.98
    # Then it begins again.
    assert curve.warp(480.0 + 100.0) == pytest.approx(480.0 + curve.warp(100.0))


def test_a_flat_curve_moves_nothing(tmp_path):
    file = tmp_path / "flat.csv"
    file.write_text("ts,rps\n0,3\n60,3\n120,3\n")
    flat = RateCurve(str(file), 100.0)
    assert [flat.warp(t) for t in (0.0, 12.5, 99.0, 250.0)] == pytest.approx([0.0, 12.5, 99.0, 250.0])


def test_windows_without_arrivals_have_none(tmp_path):
    file = tmp_path / "nights.csv"
    file.write_text("ts,rps\n0,0\n60,2\n120,0\n180,2\n")
    at_s = np.array([RateCurve(str(file), 100.0).warp(t) for t in np.linspace(0.1, 99.9, 50)])
    assert not ((at_s % 50) < 25).any()


def test_wrong_curves_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"dynamics.over_s must be greater than 0, not 0"):
        RateCurve(over_s=0.0)
    with pytest.raises(TraceError, match="no_such_day"):
        RateCurve("no_such_day").warp(1.0)


def test_a_curve_by_name_is_an_input_of_the_run():
    found = input_digests({"dynamics": {"name": "day", "curve": "alibaba_r1_day"}})
    assert list(found) == ["alibaba_r1_day"]
    assert Path("alibaba_r1_day").exists() is False
