"""A run's page: what it says of misses is what the run's rows say, and everything is inside the file."""

from __future__ import annotations

import re
import types

import numpy as np
import pandas as pd
import pytest

import gsim
from gsim.cli.entry import main
from gsim.core import Status
from gsim.inspect.explain import tell
from gsim.inspect.missed import by_cause, worst
from gsim.inspect.run_drawing import across
from gsim.inspect.story import Story

CRASH = {"name": "injected", "planned": [{"kind": "crash", "at_s": 0.5, "for_s": 1.0, "instance": 3}]}
FEW = {"requests": 60, "rate_per_s": 60}


@pytest.fixture(autouse=True)
def _an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def told(*rows):
    return pd.DataFrame(rows, columns=["request_id", "cause", "late_s"]).assign(arrival_s=1.0)


def test_the_worst_are_the_latest_and_some_of_every_cause():
    late = [(i, "moved", float(i)) for i in range(10)]
    misses = told(*late, (20, "cut", np.nan), (21, "cut", np.nan), (22, "cut", np.nan), (30, "slow card", 0.5))
    misses.loc[misses["request_id"] == 22, "arrival_s"] = np.nan  # cut before it arrived: no story
    found = worst(misses, per_cause=2, in_all=7)
    # Two of each cause (slow card has one), then the latest that finished; first who never did.
    assert found["request_id"].tolist() == [20, 21, 9, 8, 7, 6, 30]
    assert [(cause, len(own)) for cause, own in by_cause(misses)] == [("moved", 10), ("cut", 3), ("slow card", 1)]


def test_a_page_counts_what_the_rows_count(tmp_path):
    run = gsim.simulate(trace=FEW, router="random", rectifier="none", slo={"seconds": 2.5}, faults=CRASH)
    assert run.page("page.html", title="<Mine>").name == "page.html"
    page = (tmp_path / "page.html").read_text()
    counts = run.misses["cause"].value_counts()
    assert counts["crash"] == (run.requests["retries"] > 0)[~run.requests["good"]].sum() > 0
    for cause, count in counts.items():
        row = re.search(rf'data-cause="{cause}">.*?</td><td>(\d+)</td>', page)
        assert int(row[1]) == count
    assert f"<td>{len(run.requests)}</td><td>{run.requests['good'].sum()}</td>" in page
    links = re.findall(r'href="#r(\d+)"', page)
    assert len(links) == len(set(links)) == min(40, len(run.misses))
    assert set(links) == set(re.findall(r'<details id="r(\d+)">', page))
    assert '<rect class="down"' in page
    assert "<h1>&lt;Mine&gt;</h1>" in page
    # Nothing is loaded: no address but the namespace that a script gives to what it draws.
    assert set(re.findall(r'(?:src|href)="([^"#]*)"', page)) == set()
    assert set(re.findall(r"https?://[^\"' )]+", page)) <= {"http://www.w3.org/2000/svg"}


def test_where_nobody_missed_the_page_says_so(capsys, tmp_path):
    assert main(["page", "trace.requests=5", "seed=2", "file=mine.html", "out=here"]) == 0
    assert "here/mine.html says who and why" in capsys.readouterr().out
    page = (tmp_path / "here" / "mine.html").read_text()
    assert "Nobody" in page
    assert "python -m gsim explain request=ID trace.requests=5 out=here seed=2<" in page


def test_who_never_arrived_has_a_story_without_a_time():
    record = {"request_id": 3, "turn": 1, "session_id": 0, "task": "chat", "arrival_s": np.nan, "slo_s": 2.0}
    record |= {"prompt_tokens": 7, "output_tokens": 9, "status": int(Status.CUT)}
    said = tell(Story(record, (), (), ()), types.SimpleNamespace(instances=()))
    assert "class chat: had not arrived when the run stopped, with 7 prompt tokens" in said
    assert said.endswith("It was cut: a miss.")


def test_times_stand_in_order_inside_the_drawing():
    places = [across(time_s, 8.0) for time_s in (-1.0, 0.0, 4.0, 8.0, 9.0)]
    assert places == sorted(places)
    assert places[0] == places[1]
    assert places[3] == places[4]


@pytest.mark.parametrize("command", ["explain", "page", "timeline", "compare", "report", "check", "reference"])
def test_a_command_says_what_it_does(command, capsys):
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"python -m gsim {command} ")
    assert "unknown" not in said
