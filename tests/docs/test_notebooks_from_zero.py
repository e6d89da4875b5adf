"""Notebooks that start from nothing run in their own folder, cell by cell (in this process, with fewer requests)."""

from __future__ import annotations

import json
import re

import pytest
from pages import ROOT

BOOKS = sorted(
    path
    for path in (ROOT / "notebooks").glob("*.ipynb")
    if json.loads(path.read_text(encoding="utf-8"))["metadata"]["gsim"].get("from_zero")
)


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_notebook_from_zero_runs_where_it_is_opened(path, monkeypatch, capsys):
    monkeypatch.chdir(path.parent)
    before = set(path.parent.iterdir())
    names = {"__name__": "__main__"}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            text = re.sub(r"^(REQUESTS|SESSIONS) = \d+", r"\1 = 40", "".join(cell["source"]), flags=re.MULTILINE)
            exec(compile(text, path.name, "exec"), names)
    assert set(path.parent.iterdir()) == before
    capsys.readouterr()


def test_there_are_notebooks_for_a_beginning():
    first = {"first_study", "own_router", "own_pool_and_trace", "reading_results", "figure_2"}
    assert {path.stem for path in BOOKS} >= first
