"""Progress says where the simulated clock is."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gsim.cli.entry import main
from gsim.cluster.guard import Guard
from gsim.core import ConfigError
from gsim.gateway.telemetry_config import TelemetryConfig
from gsim.run import pulse
from gsim.run.pulse import Pulse, clocks, swept
from gsim.study.progress import standing


def test_a_run_tells_where_its_clock_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "_EVERY_S", 0.01)
    runs = tmp_path / "results" / "default" / "runs"
    seen: list[float] = []
    look = Guard._look

    def slow_look(self) -> None:
        until = time.monotonic() + 5
        while not seen and time.monotonic() < until:
            seen.extend(clocks(runs))
            time.sleep(0.005)
        look(self)

    monkeypatch.setattr(Guard, "_look", slow_look)
    monkeypatch.chdir(tmp_path)
    assert main(["trace.requests=2", "trace.rate_per_s=0.001", "warmup_s=0", "seeds=1"]) == 0
    assert seen
    assert all(0.0 <= clock_s < 1e5 for clock_s in seen)
    assert clocks(runs) == []


def test_what_was_left_by_who_was_killed_goes(tmp_path: Path) -> None:
    (tmp_path / ".clock-1").write_text("12.5")
    (tmp_path / ".clock-2").write_text("7.25")
    (tmp_path / ".clock-3").write_text("")
    assert clocks(tmp_path) == [7.25, 12.5]
    swept(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_short_run_writes_nothing(tmp_path: Path) -> None:
    with Pulse(tmp_path).beating():
        assert not list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("count", "new", "clocks_s", "line"),
    [
        (0, 0, [], "study: 0 of 4"),
        (0, 0, [1234.4], "study: 0 of 4 (simulated clock at 1,234 s)"),
        (3, 2, [7.0, 1e6], "study: 3 of 4, about 1:00 left (simulated clocks at 7 to 1,000,000 s)"),
    ],
)
def test_how_far_work_is(count, new, clocks_s, line) -> None:
    assert standing("study", 4, count, new, 120.0, clocks_s) == line


@pytest.mark.parametrize("name", ["interval_s", "stream_interval_s", "sample_interval_s"])
def test_intervals_that_keep_a_run_from_getting_on_are_refused(name) -> None:
    with pytest.raises(ConfigError, match=f"telemetry.{name} must be 1e-06 or more, not 1e-300"):
        TelemetryConfig(**{name: 1e-300})
