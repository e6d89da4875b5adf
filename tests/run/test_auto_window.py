"""``warmup_s=auto`` and ``until_s=auto``: one window for all policies, or an error that says what is wrong."""

from __future__ import annotations

import pytest

from gsim.cli.compose import compose, hydra_session, plain, register_schema
from gsim.core import ConfigError
from gsim.run.cell import run, summary_of, with_window
from gsim.run.settings import AUTO, Settings


@pytest.fixture(scope="module")
def auto():
    register_schema()
    with hydra_session() as hydra:
        values = plain(compose(hydra, ["trace.rate_per_s=10", "trace.requests=400", "rectifier=none"])[0])
    return Settings.read(values | {"warmup_s": AUTO})


def test_every_policy_gets_the_same_window_and_it_is_told(auto):
    found = {name: with_window(auto.replace(router={"name": name})) for name in ("random", "fastest")}
    assert {(chosen.warmup_s, chosen.until_s) for chosen in found.values()} == {(found["random"].warmup_s, None)}
    # Requests of the paper's shape last some seconds, and the pool is full when the first have ended.
    assert 2 <= found["random"].start_s <= 30
    assert found["fastest"].choices["router"].name == "fastest"
    told = summary_of(found["fastest"], run(auto.replace(router={"name": "fastest"}), 0), 0.0)
    assert told["metrics"]["window_start_s"] == found["random"].start_s
    both = with_window(auto.replace(until_s=AUTO))
    assert both.end_s >= both.start_s + 60


def test_what_is_given_stays_and_what_cannot_be_is_named(auto):
    assert with_window(auto.replace(warmup_s=3.0, until_s=AUTO)).start_s == 3.0
    fixed = auto.replace(warmup_s=1.0)
    assert with_window(fixed) is fixed
    with pytest.raises(ConfigError, match="until_s is 1; choose a later one"):
        with_window(auto.replace(until_s=1.0))
    with pytest.raises(ConfigError, match="must be given in seconds"):
        _ = auto.window
    with pytest.raises(ConfigError, match="or auto"):
        auto.replace(warmup_s=-1.0)


def test_a_run_with_a_pilot_depends_on_its_code(auto):
    assert auto.code() != auto.replace(warmup_s=1.0).code()


def test_agents_that_think_for_long_are_waited_for(auto):
    agents = auto.replace(trace={"name": "agents", "agents": 3, "think_s": 200.0}, until_s=AUTO)
    found = with_window(agents)
    assert found.start_s >= 200.0
    assert found.end_s >= found.start_s + 600.0
