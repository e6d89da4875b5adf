"""Objectives of whole sessions, with every kind of objective."""

from __future__ import annotations

import math

import pytest

from gsim.core import ConfigError
from gsim.run.options import options

NAMES = list(options("slo"))


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_objective_takes_one_of_sessions(name):
    option = options("slo")[name].config
    assert option().session_slo_s(math.inf, 10.0) == 10.0
    assert option(session_s=60.0).session_slo_s(math.inf, 10.0) == 60.0
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match="session_s must be a positive number"):
            option(session_s=wrong)


def test_a_recorded_objective_of_a_session_holds_before_any_other():
    recorded = options("slo")["trace"].config
    assert recorded(session_s=60.0).session_slo_s(20.0, 10.0) == 20.0
