"""A results folder holds one command's results, whole, and one command at a time."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from gsim.cli.entry import main
from gsim.core import ConfigError, InputError
from gsim.run.settings import read_seeds
from gsim.study import results
from gsim.study.folder import claimed, describe, published

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["trace.requests=30", "warmup_s=0", "seeds=2", "hydra.launcher.n_jobs=1", "rectifier=none"]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _names(out: Path) -> set[str]:
    return {path.name for path in out.iterdir() if not path.name.startswith(".")} - {"runs", "bounds"}


def test_a_reused_folder_keeps_nothing_of_the_study_before(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    assert main(["name=v1.2", "out=mine", "router=random,round_robin", *SMALL]) == 0
    assert {"findings.txt", "paired.csv", "v1.2.png", "v1.2.pdf"} < _names(out)
    (out / "notes.md").write_text("the user's own")
    assert main(["name=second", "out=mine", "router=random", *SMALL]) == 0
    usual = {"results.csv", "runs.csv", "instances.csv", "requests.parquet", "config.yaml", "provenance.json"}
    assert _names(out) == usual | {"notes.md"}
    assert set(json.loads((out / "provenance.json").read_text())["outputs"]) == usual


def test_a_folder_from_before_outputs_were_listed_is_cleared_of_what_is_known(tmp_path: Path) -> None:
    for name in ("results.csv", "findings.txt", "paired.csv", "old.png", "old.pdf", "notes.md"):
        (tmp_path / name).write_text("x")
    (tmp_path / "config.yaml").write_text("name: old\n")
    (tmp_path / "provenance.json").write_text("{}")
    with published(tmp_path) as stage:
        (stage / "results.csv").write_text("new")
        describe({"name": "new"}, stage, {})
    assert _names(tmp_path) == {"results.csv", "config.yaml", "provenance.json", "notes.md"}


def test_a_list_of_outputs_reaches_nothing_outside(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    out = tmp_path / "mine"
    out.mkdir()
    (out / "provenance.json").write_text(json.dumps({"outputs": ["../precious", "..", "", 5]}))
    with published(out) as stage:
        describe({"name": "n"}, stage, {})
    assert (tmp_path / "precious").read_text() == "x"


def test_a_full_disk_is_said_and_leaves_no_half_of_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, *rest: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "write_requests", full)
    assert main(["name=full", "router=random", *SMALL]) == 1
    assert "results cannot be written: No space left on device" in capsys.readouterr().err
    assert _names(tmp_path / "results" / "full") == set()


def test_a_folder_in_use_is_refused_with_who_uses_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    with claimed(out, ["experiment=first"]):
        assert main(["out=mine", "router=random", *SMALL]) == 1
        said = capsys.readouterr().err
        assert f"another command is at work there (process {os.getpid()}: gsim experiment=first)" in said
        assert "out=DIR" in said
        with pytest.raises(ConfigError), claimed(out, []):
            raise AssertionError
    with claimed(out, []):
        assert (out / ".lock").read_text().startswith(f"process {os.getpid()}")


def _half_published(out: Path) -> None:
    with published(out) as stage:
        (stage / "results.csv").write_text("half")
        raise OSError(28, "No space left on device")


def test_a_lock_that_cannot_be_taken_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r" / ".lock").mkdir(parents=True)
    assert main(["router=random", *SMALL, "out=r"]) == 1
    assert "out=r: .lock cannot be written (Is a directory)" in capsys.readouterr().err


def test_an_error_in_between_publishes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No space left"):
        _half_published(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_large_seeds_are_kept(tmp_path: Path) -> None:
    assert main(["name=large", "router=random", *SMALL, f"seeds=[0,{2**31},{2**63 - 1}]"]) == 0
    requests = pd.read_parquet(tmp_path / "results" / "large" / "requests.parquet")
    assert set(requests["seed"]) == {0, 2**31, 2**63 - 1}


@pytest.mark.parametrize("seeds", [[2**63], [-1], 10**11, 0, [1.5]])
def test_seeds_that_cannot_be_kept_are_refused_at_once(seeds: object) -> None:
    with pytest.raises(ConfigError, match="seeds must be a count"):
        read_seeds(seeds)


# ---------------------------------------------------------------- processes


@contextmanager
def _command(*words: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    """The command line in a process of its own (and in a group of its own, so that only it gets the signal)."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "GSIM_PURE": "1"} | dict(options.pop("env", {}))  # type: ignore[call-overload]
    command = [sys.executable, "-m", "gsim", *words]
    made = subprocess.Popen(command, env=env, text=True, start_new_session=True, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]
    try:
        yield made
    finally:
        made.kill()
        made.wait()
        assert made.stderr is not None
        made.stderr.close()


def _children(pid: int) -> set[int]:
    """The processes below this one."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = int(fields[1])
    found: set[int] = set()
    while True:
        more = {child for child, parent in parents.items() if parent in found | {pid}} - found
        if not more:
            return found
        found |= more


def _alive(pids: set[int]) -> set[int]:
    found = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            found.add(pid)
    return found


def _wait_for(condition: object, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.1)
    raise AssertionError("waited in vain")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_command(tmp_path: Path, number: signal.Signals) -> None:
    words = ["name=long", "router=random,round_robin", "seeds=40", "trace.requests=2000", "hydra.launcher.n_jobs=2"]
    with _command(*words, stdout=subprocess.DEVNULL) as command:
        runs = tmp_path / "results" / "long" / "runs"
        _wait_for(lambda: len(list(runs.glob("*.parquet"))) >= 2)
        workers = _children(command.pid)
        assert len(workers) >= 2
        command.send_signal(number)
        command.wait(60)
        _wait_for(lambda: not _alive(workers), 30)
        if number != signal.SIGKILL:
            assert command.returncode == 128 + number
            assert command.stderr is not None
            assert "finished runs are kept" in command.stderr.read()
    assert not (tmp_path / "results" / "long" / "results.csv").exists()


def test_a_reader_that_stops_reading_loses_nothing(tmp_path: Path) -> None:
    with _command("name=headed", "router=random", *SMALL, stdout=subprocess.PIPE) as command:
        assert command.stdout is not None
        command.stdout.close()
        assert command.wait(120) == 0
        assert command.stderr is not None
        assert "Traceback" not in command.stderr.read()
    assert "provenance.json" in _names(tmp_path / "results" / "headed")


@pytest.mark.parametrize("closed", ["1", "2", "0 1 2"])
def test_what_is_closed_is_not_written_to(tmp_path: Path, closed: str) -> None:
    words = ["name=deaf", "router=random,round_robin", *SMALL]
    command = shlex.join([sys.executable, "-m", "gsim", *words])
    shell = f"exec {command} {' '.join(f'{number}>&-' for number in closed.split())}"
    env = os.environ | {"PYTHONPATH": str(ROOT), "GSIM_PURE": "1"}
    done = subprocess.run(["sh", "-c", shell], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "provenance.json" in _names(tmp_path / "results" / "deaf")


def test_a_full_standard_error_stops_nothing(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    words = [sys.executable, "-m", "gsim", "name=mute", "router=random", *SMALL]
    env = os.environ | {"PYTHONPATH": str(ROOT), "GSIM_PURE": "1"}
    with Path("/dev/full").open("w") as full:
        assert subprocess.run(words, env=env, stdout=subprocess.DEVNULL, stderr=full, check=False).returncode == 0
    assert "provenance.json" in _names(tmp_path / "results" / "mute")


def test_a_terminal_without_the_letters_gets_question_marks(tmp_path: Path) -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    with _command("name='größe'", "router=random", *SMALL, stdout=subprocess.PIPE, env=ascii_only) as command:
        said, errors = command.communicate(timeout=120)
        assert command.returncode == 0, errors
        assert "results in 'results/gr??e'" in said
    assert "provenance.json" in _names(tmp_path / "results" / "größe")
