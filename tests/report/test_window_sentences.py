"""What is said of windows that are too short."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import nan

import numpy as np

from gsim.report.windows import window_sentences


@dataclass
class Measured:
    label: str = "fastest"
    point: dict = field(default_factory=lambda: {"trace.rate_per_s": 40})
    metrics: dict = field(default_factory=dict)

    def metric(self, name):
        return np.array(self.metrics.get(name, [nan, nan]), dtype=float)


def cell(stay_s, cut=0, **more):
    known = {"sessions": [100, 100], "stay_s": [stay_s, stay_s], "cut_sessions": [cut, cut]}
    return Measured(metrics={**known, "window_start_s": [80, 80], "window_until_s": [200, 200]}, **more)


def test_a_window_as_long_as_its_sessions_is_not_spoken_of():
    # Beyond capacity sessions last longer: that is no fault of the window.
    assert window_sentences("study", [cell(60.0), cell(500.0)], "by_session") == []


def test_a_short_window_is_named_with_its_study():
    said = window_sentences("study", [cell(150.0), cell(500.0)], "by_session")
    assert len(said) == 1
    assert said[0].startswith("warning: study has a warm-up of 80")
    assert "a window of 120" in said[0]
    assert "last 150 s" in said[0]
    # Where too few sessions have ended to tell how long they last, they last longer than the runs.
    assert "too long to be seen whole" in window_sentences("study", [cell(nan)], "by_session")[0]
    # A recorded trace has its beginning and its end.
    assert window_sentences("study", [cell(150.0)], "by_arrival") == []


def test_cut_sessions_are_told_with_where_most_were_cut():
    said = window_sentences("study", [cell(60.0), cell(60.0, 5), cell(60.0, 20, label="random")], "by_session")
    assert said == [
        "in 2 of 3 cells the run was stopped (drain_s) before all counted sessions had ended: "
        "those are misses, at most 20.0% of the sessions (random, trace.rate_per_s=40)"
    ]


def test_single_requests_have_no_sessions_to_speak_of():
    assert window_sentences("study", [Measured()], "by_session") == []
