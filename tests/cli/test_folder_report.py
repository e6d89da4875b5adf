"""``python -m gsim report DIR``: from a folder to a page, and what the page has a reader copy works."""

from __future__ import annotations

import html
import re
import shlex

import pytest

import gsim
from gsim.cli.entry import main


@pytest.fixture(autouse=True)
def _an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_page_of_a_sweep_leads_to_its_runs_by_commands_that_work(tmp_path, capsys):
    sweep = ["router=random,least_load", "trace.rate_per_s=60,90", "trace.requests=20", "slo.seconds=2", "seeds=1"]
    assert main([*sweep, "rectifier=none", "out=it", "hydra.launcher.n_jobs=1"]) == 0
    assert main(["report", "it"]) == 0
    assert "it/report.html" in capsys.readouterr().out
    page = (tmp_path / "it" / "report.html").read_text()
    assert page.count('<details class="runs"') == 4
    found = re.findall(r"<code>(python -m gsim page [^<]*)</code>", page)
    words = shlex.split(html.unescape(found[-1]))[3:]
    assert main([*words[:-1], "seed=0"]) == 0
    run = (tmp_path / "it" / "run.html").read_text()
    last = page[page.rindex('<table class="runs">') :]
    missed = int(re.findall(r"<td>(\d+)</td>", last)[-1])
    assert f"{missed} missed</p>" in run


def test_a_folder_that_a_program_made_has_no_command(tmp_path):
    gsim.sweep({"router": ["random", "fastest"]}, seeds=1, trace={"requests": 10}, out="it")
    assert main(["report", "it"]) == 0
    page = (tmp_path / "it" / "report.html").read_text()
    assert "gsim.simulate(...)" in page
    assert "python -m gsim page" not in page


def test_what_is_no_results_folder_is_an_error(capsys):
    assert main(["report", "nowhere"]) == 1
    assert "nowhere: no results here" in capsys.readouterr().err
