"""Simulated and live, side by side: the study, on a handful of requests inside one process."""

from __future__ import annotations

import asyncio
import multiprocessing
import time

import pandas as pd
import pytest
from live_cases import MODEL, emulated

from gsim.cli.entry import main
from gsim.cli.one import settings_of
from gsim.core import ConfigError, Job, Request, Session, Status
from gsim.emulate.metrics import Metrics
from gsim.live.clients import clients_process
from gsim.live.load import LoadOptions, now
from gsim.run.cell import run
from gsim.validation.live_run import LiveOptions, live_run
from gsim.validation.studies.sim_to_live import _too_much


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_study_puts_both_side_by_side(tmp_path, capsys):
    words = ["experiment=sim_to_live", "policies=[round_robin,goodserve+risk_monitor]", "rates_per_s=[20]"]
    assert main([*words, "trace.requests=24", "speed=8", "apart=false"]) == 0
    table = pd.read_csv(tmp_path / "results" / "sim_to_live" / "sim_to_live.csv")
    columns = ["policy", "rate_per_s", "metric", "statistic", "simulated", "live", "diff_percent"]
    assert table.columns.tolist() == columns
    at = table.set_index(["policy", "metric", "statistic"])
    for policy in ("round_robin", "goodserve+risk_monitor"):
        assert at.loc[(policy, "completed", "count"), "live"] == 24
        tokens = at.loc[(policy, "tokens", "sum")]
        assert tokens["live"] == tokens["simulated"]
    # Nothing is drawn and nothing learned: every request goes where it went.
    assert at.loc[("round_robin", "same_instance", "share"), "live"] == 1.0
    # At eight times real time a machine that is busy is late by much, but it is never early.
    assert -5 < at.loc[("round_robin", "e2e_ms", "mean"), "diff_percent"] < 200
    assert "round_robin at 20/s: goodput" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["policies=[typo]"], "there is no router 'typo'"),
        (["predictor=noisy"], "is an oracle"),
        (["speed=0"], "speed must be above 0"),
        (["faults=injected"], "faults=none"),
    ],
)
def test_what_cannot_run_live_is_said(words, said, capsys):
    small = ["rates_per_s=[20]", "policies=[round_robin]", "trace.requests=2", "apart=false"]
    given = {word.partition("=")[0] for word in words}
    kept = [word for word in small if word.partition("=")[0] not in given]
    assert main(["experiment=sim_to_live", *kept, *words]) == 1
    assert said in capsys.readouterr().err


def test_sessions_go_on_after_their_answers_and_find_their_prefixes(monkeypatch):
    """Agents, turn after turn: prompts hold what was generated before, and servers have it cached as in simulation."""
    cached = []
    told = Metrics.first_token

    def first_token(self, answer):
        cached.append(answer.cached_tokens)
        told(self, answer)

    monkeypatch.setattr(Metrics, "first_token", first_token)
    words = ["predictor=history", "rectifier=none", "router=session_affinity", "slo=per_class"]
    settings = settings_of(["trace=mix", "trace.requests=8", "trace.rate_per_s=8", *words])
    live = live_run(settings, 0, LiveOptions(speed=20.0, apart=False))
    simulated = run(settings, 0).requests
    assert live.errors == ()
    assert (live.requests["status"] == Status.FINISHED).all()
    assert live.requests["turn"].max() > 0
    assert live.requests["generated_tokens"].tolist() == simulated["generated_tokens"].tolist()
    assert sum(cached) == pytest.approx(simulated["cached_tokens"].sum(), rel=0.02)
    assert sum(cached) > 0


def test_servers_and_clients_apart():
    settings = settings_of(["trace.requests=6", "trace.rate_per_s=20", "predictor=history", "rectifier=none"])
    live = live_run(settings, 0, LiveOptions(speed=20.0, stream_interval=4))
    assert live.errors == ()
    assert (live.requests["status"] == Status.FINISHED).all()
    assert sum(live.served) == 6


@pytest.mark.parametrize("when", ["before", "asked", "begun"])
def test_clients_that_are_gone_are_told_of(when):
    def end():
        for process in multiprocessing.active_children():
            process.kill()
            process.join()

    async def begin():
        if when == "asked":
            end()
        asyncio.get_running_loop().call_later(0.2, end)
        return time.monotonic()

    async def put():
        async with emulated(speed=0.02) as (pool, _):
            await clients.run(LoadOptions(pool.urls, MODEL, 0.01), begin)

    sessions = [Session(0, 0.0, (Job(Request(0, 0.0, 10, 50, 10.0, session_id=0), 50),))]
    with clients_process(sessions) as clients:
        if when == "before":
            end()
        with pytest.raises(ConfigError, match="the clients' process ended before its load did"):
            asyncio.run(asyncio.wait_for(put(), 20.0))


def test_clients_end_when_nobody_waits_for_them(tmp_path):
    started = time.monotonic()
    with clients_process([Session(0, 1e6, (Job(Request(0, 1e6, 10, 50, 10.0, session_id=0), 50),))]) as clients:

        async def put():
            async with emulated(speed=0.02) as (pool, _):
                await asyncio.wait_for(clients.run(LoadOptions(pool.urls, MODEL), now), 3.0)

        with pytest.raises(TimeoutError):
            asyncio.run(put())
        (process,) = multiprocessing.active_children()
    assert process.exitcode == 0
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(("later_ms", "speed", "said"), [(40.0, 1.0, False), (60.0, 1.0, True), (160.0, 4.0, False)])
def test_a_load_that_the_machine_does_not_carry_is_told_of(later_ms, speed, said):
    row = {"policy": "fastest", "rate_per_s": 10.0, "metric": "later_ms", "live": later_ms}
    told = list(_too_much(pd.DataFrame([row, row | {"metric": "e2e_ms", "live": 9000.0}]), speed))
    assert [line.partition(".")[0] for line in told] == ["fastest at 10/s: this machine does not carry the load"] * said
