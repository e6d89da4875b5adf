"""Choosing a policy of the queue: names and fields, what the gateway sends along, what a run's key depends on."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from gsim.cluster import InstanceSpec, Scenario, simulate
from gsim.core import ConfigError, Job, Request, Session, build
from gsim.core.scheduling import QUANTILES
from gsim.engine import EngineConfig
from gsim.latency import constant_profile
from gsim.run.closure import sources
from gsim.run.key import _modules
from gsim.run.options import RUN_GROUPS
from gsim.run.settings import Settings
from gsim.study.grid import Grid


def run(policy, predictor="noisy", jobs=6):
    """Requests of 40 tokens, one after another on one instance."""
    spec = InstanceSpec("one", constant_profile(0.01, max_num_seqs=2), EngineConfig(policy=policy))
    sessions = (Session(i, 0.1 * i, (Job(Request(i, 0.1 * i, 50, 512, 5.0), 40),)) for i in range(jobs))
    parts = {name: build(name, choice) for name, choice in (("router", "always_first"), ("estimator", "nominal"))}
    scenario = Scenario((spec,), predictor=build("predictor", predictor), **parts)
    return simulate(scenario, sessions, 1)


@pytest.mark.parametrize(("needs", "quantiles"), [({"prediction"}, 0), ({"prediction", "quantiles"}, len(QUANTILES))])
def test_the_gateway_sends_along_what_a_policy_needs(own, needs, quantiles):
    seen = []

    class Mine:
        """Remembers forecasts."""

        def queue_key(self, request, card):
            seen.append(request.forecast)
            return 0.0

    Mine.needs = frozenset(needs)
    run(own(Mine))
    assert len(seen) == 6
    for forecast in seen:
        assert 10.0 < forecast.tokens < 120.0
        assert len(forecast.quantiles) == quantiles


def test_nothing_is_predicted_for_who_needs_nothing(own):
    seen = []

    class Mine:
        """Remembers forecasts."""

        def queue_key(self, request, card):
            seen.append(request.forecast)
            return 0.0

    result = run(own(Mine))
    assert seen == [None] * 6
    assert all(math.isnan(tokens) for tokens in result.requests["predicted_tokens"])


def test_a_predictor_without_distribution_gives_the_mean(own):
    seen = []

    class Mine:
        """Remembers forecasts."""

        needs = frozenset({"prediction", "quantiles"})

        def queue_key(self, request, card):
            seen.append(request)
            return 0.0

    run(own(Mine), predictor="constant")
    assert {request.forecast for request in seen} == {(256.0, ())}
    assert {request.lengths() for request in seen} == {(256.0,)}


def test_needs_that_there_are_not_are_refused(own):
    class Mine:
        """Wants the truth."""

        needs = frozenset({"truth"})

        def queue_key(self, request, card):
            return 0.0

    with pytest.raises(ConfigError, match=r"scheduler 'mine' declares unknown needs: \['truth'\]; allowed:"):
        run(own(Mine))


def settings(policy):
    chosen = {group: {"name": name} for group, name in RUN_GROUPS.items()}
    return Settings.read({**chosen, "engine": {"name": "decode_clock", "policy": policy}})


def test_a_runs_key_depends_on_the_policy_its_fields_and_its_code():
    keys = {settings(policy).key(0) for policy in ("fcfs", "edf", {"name": "shortest_predicted", "ageing": 2.0})}
    assert len(keys) == 3
    chosen = {group: (choice.name, choice.fields) for group, choice in settings("edf").choices.items()}
    assert "gsim.scheduling.edf" in {module.name for module in sources().closure(_modules(chosen))}
    chosen = {group: (choice.name, choice.fields) for group, choice in settings("fcfs").choices.items()}
    assert "gsim.scheduling.edf" not in {module.name for module in sources().closure(_modules(chosen))}


def test_policies_are_swept_and_compared_on_the_command_line():
    from gsim.cli.cells import grid
    from gsim.cli.compose import compose, hydra_session, register_schema

    register_schema()
    words = ["engine.policy=fcfs,edf,{name: shortest_predicted, ageing: 2}", "compare=[engine.policy]", "seeds=1"]
    with hydra_session() as hydra:
        config, multirun = compose(hydra, words)
        made: Grid = grid(hydra, config, words)
    assert multirun
    assert [cell.settings.scenario().instances[0].engine.policy for cell in made.cells] == [
        "fcfs",
        "edf",
        {"name": "shortest_predicted", "ageing": 2},
    ]
    labels = ["policy=fcfs", "policy=edf", "policy=shortest_predicted(ageing=2)"]
    assert [cell.label for cell in made.cells] == labels


def test_a_sweep_of_policies_with_and_without_fields_is_run_and_written(tmp_path, monkeypatch):
    from gsim.cli.entry import main

    monkeypatch.chdir(tmp_path)
    few = ["trace.requests=12", "seeds=2", "rectifier=none", "name=some", "hydra.launcher.n_jobs=1"]
    assert main(["engine.policy=fcfs,{name: shortest_predicted, ageing: 2}", "compare=[engine.policy]", *few]) == 0
    table = pd.read_csv(tmp_path / "results" / "some" / "results.csv")
    assert table["policy"].tolist() == ["policy=fcfs", "policy=shortest_predicted(ageing=2)"]
    rows = pd.read_parquet(tmp_path / "results" / "some" / "requests.parquet")
    assert rows.groupby("policy").size().tolist() == [24, 24]
