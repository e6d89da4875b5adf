"""The compiled build: the same results as from source, never older than the source, and a reason where it is absent."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gsim
from gsim import _build

PACKAGE = Path(gsim.__file__).parent
ASK = "import gsim, gsim.engine.books as books; print(gsim.compiled, books.__spec__.origin)"


def ask(*command: str, pure: bool = False, path: Path = PACKAGE.parent) -> subprocess.CompletedProcess[str]:
    """Run Python with gsim from ``path``, with nothing else said in the environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GSIM_", "COV_"))}
    environment |= {"PYTHONPATH": str(path)} | ({"GSIM_PURE": "1"} if pure else {})
    return subprocess.run(
        [sys.executable, *command], cwd=path, env=environment, capture_output=True, text=True, check=True
    )


@pytest.fixture(scope="module")
def compiled() -> None:
    """Skips where the installation compiled nothing, or something has been edited since."""
    said = ask("-c", "import gsim; print(gsim.compiled, gsim.compiled_why)").stdout
    if not said.startswith("True"):
        pytest.skip(f"no compiled build: {said.strip().removeprefix('False ')}")


@pytest.mark.usefixtures("compiled")
def test_compiled_and_source_leave_the_same_bytes():
    script = str(Path(__file__).with_name("compiled_runs.py"))
    found = [json.loads(ask(script, pure=pure).stdout) for pure in (False, True)]
    assert [one.pop("compiled") for one in found] == [True, False]
    assert found[0].pop("why") != found[1].pop("why")
    assert found[0] == found[1]
    counts = found[0]["preemptions"]
    assert min(counts["tight"], counts["priority"], counts["stepwise"], found[0]["moves"]) > 0


@pytest.mark.usefixtures("compiled")
def test_an_edit_takes_effect_and_is_told_once(tmp_path: Path):
    shutil.copytree(PACKAGE, tmp_path / "gsim", ignore=shutil.ignore_patterns("__pycache__", "_data"))
    same = ask("-c", ASK, path=tmp_path)
    assert (same.stdout.split()[0], same.stderr) == ("True", "")
    # Not compiled itself, but the compiled modules hold its constants.
    with (tmp_path / "gsim" / "core" / "events.py").open("a") as file:
        file.write("# an edit\n")
    again = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ASK!r}], check=True)"
    edited = ask("-c", f"{ASK}; {again}", path=tmp_path)
    assert edited.stdout.splitlines() == [f"False {tmp_path}/gsim/engine/books.py"] * 2
    assert edited.stderr.startswith("gsim: runs from source: gsim/core/events.py has changed since the installation")
    assert edited.stderr.count("\n") == 1


def test_source_on_request_is_silent():
    asked = ask("-c", ASK, pure=True)
    assert (asked.stdout.split()[0], asked.stderr) == ("False", "")


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a manifest and chooses by it; whatever is changed in this process is put back."""

    def write(content: dict[str, Any]) -> tuple[bool, str]:
        (tmp_path / "_gsim_compiled").mkdir(exist_ok=True)
        (tmp_path / "_gsim_compiled" / "manifest.json").write_text(json.dumps(content))
        return _build.choose()

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setenv("GSIM_TOLD_SOURCE", "")
    monkeypatch.delenv("GSIM_TOLD_SOURCE")
    monkeypatch.delenv("GSIM_PURE", raising=False)
    return write


@pytest.mark.usefixtures("compiled")
def test_help_signatures_and_pickles_survive():
    ask_help = """
import inspect, pickle
from gsim.core import entries
from gsim.latency import load_profile
from gsim.latency.row import DecodeRow
engine = entries("engine")["decode_clock"]
row = DecodeRow([10, 100], [0.1, 0.3])
print(engine.summary, inspect.signature(engine.cls).parameters.keys())
print([pickle.loads(pickle.dumps(row)).run_s(context, 50) for context in (3.5, 70.25)])
pickle.dumps(load_profile("a40-llama-3.1-8b"))
"""
    assert ask("-c", ask_help).stdout == ask("-c", ask_help, pure=True).stdout


def test_why_nothing_was_compiled_is_known(manifest: Any, capsys: pytest.CaptureFixture[str]):
    assert manifest({"why": "there was no C compiler"}) == (False, "there was no C compiler")
    assert capsys.readouterr().err == ""


def test_equal_digests_are_needed(manifest: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    row = PACKAGE / "latency" / "row.py"
    equal = {"gsim/latency/row.py": hashlib.sha256(row.read_bytes()).hexdigest()}
    modules = {"gsim.latency.row": "row.so"}
    before = len(sys.meta_path)
    for sources in ({"gsim/latency/row.py": "0"}, {"gsim/latency/gone.py": "0"}):
        assert manifest({"modules": modules, "sources": sources})[0] is False
    assert capsys.readouterr().err.count("\n") == 1, "told once, and workers inherit that"
    assert len(sys.meta_path) == before
    assert manifest({"modules": modules, "sources": equal})[0] is True
    finder = sys.meta_path[0]
    assert finder.find_spec("gsim.latency.row", None).origin.endswith("row.so")  # type: ignore[union-attr]
    assert finder.find_spec("gsim.latency.grid", None) is None
    monkeypatch.setenv("GSIM_PURE", "1")
    assert manifest({"modules": modules, "sources": equal}) == (False, "GSIM_PURE is set")
