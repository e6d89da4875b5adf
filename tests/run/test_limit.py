"""Limits that stop a run; they change no result."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from test_keys import settings

from gsim.core import ConfigError, SimulationError
from gsim.run.cell import compute
from gsim.run.limit import Limit


def test_a_limit_is_no_part_of_a_key() -> None:
    assert settings(limit={"simulated_s": 500.0, "wall_s": 9.0}).key(0) == settings().key(0)


def test_a_rate_that_never_ends_is_stopped(tmp_path: Path) -> None:
    slow = settings(
        trace={"name": "paper", "requests": 3, "rate_per_s": 1e-12},
        router={"name": "least_load"},
        rectifier={"name": "none"},
    )
    with pytest.raises(SimulationError, match=r"still going on at .*3.1536e\+07.*the next session arrives at"):
        compute(slow, (0,), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_wall_time_stops_even_a_policy_that_loops() -> None:
    began = time.monotonic()
    with pytest.raises(SimulationError, match="limit.wall_s=0.2"):
        _loop(Limit(wall_s=0.2))
    assert time.monotonic() - began < 60
    with Limit(wall_s=60.0).on_the_wall():
        pass


def _loop(limit: Limit) -> None:
    with limit.on_the_wall():
        while True:
            pass


@pytest.mark.parametrize("values", [{"simulated_s": 0}, {"simulated_s": -1}, {"wall_s": 0}, {"wall_s": float("inf")}])
def test_limits_are_checked(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"must be (greater than 0|a finite number)"):
        settings(limit=values)


def test_a_window_that_counts_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no request is counted: of 20 none is in the window from warmup_s=1e\+09"):
        compute(settings(warmup_s=1e9), (0,), tmp_path)


def test_a_limit_beyond_all_timers_is_none() -> None:
    with Limit(wall_s=1e300).on_the_wall():
        pass
