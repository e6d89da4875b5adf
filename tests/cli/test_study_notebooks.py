"""The notebooks run on small results, and are kept without output."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from gsim.cli.compose import groups
from gsim.cli.entry import main
from gsim.study.experiments import read_experiments

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path):
    return nbformat.read(path, as_version=4)


#: (Those that start from nothing are run in tests/docs.)
ON_RESULTS = [path for path in NOTEBOOKS if not read(path).metadata["gsim"].get("from_zero")]


@pytest.mark.parametrize("path", ON_RESULTS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_small_results(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    book = read(path)
    known = read_experiments(set(groups()))
    for need in book.metadata["gsim"]["needs"]:
        # An experiment, and what makes it small where that is not a matter of requests and seeds.
        name, *own = need.split()
        words = [] if name == "default" else [f"experiment={name}"]
        if name in known and "sweep" in known[name].values:
            field, values = next(iter(known[name].values["sweep"].items()))
            words.append(f"{field}={values[0]},{values[1]}")
            if "router" in known[name].values["sweep"]:
                words.append("router=goodserve,random")
        assert main([*words, "seeds=2", "trace.requests=30", "warmup_s=0", *own, "hydra.launcher.n_jobs=1"]) == 0
    NotebookClient(book, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any(cell.get("outputs") for cell in book.cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_output(path):
    for cell in read(path).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
