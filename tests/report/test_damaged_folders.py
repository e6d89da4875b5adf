"""Results folders that somebody changed: whatever reads them says so, in a sentence that names the folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import gsim
from gsim.cli.entry import main
from gsim.core import InputError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two policies at two rates that only the eleventh digit tells apart."""
    out = tmp_path_factory.mktemp("results") / "whole"
    grid = {"router": ["random", "round_robin"], "trace.rate_per_s": [40.0, 40.0000000001]}
    gsim.sweep(grid, seeds=1, trace={"requests": 10}, rectifier="none", predictor="constant", out=out)
    return out


def damaged(whole: Path, folder: Path, name: str, content: bytes) -> Path:
    shutil.copytree(whole, folder)
    (folder / name).write_bytes(content)
    return folder


REPEATED = "".join(f"m{i}: &m{i} [{', '.join([f'*m{i - 1}'] * 40)}]\n" for i in range(1, 8))
CONTENTS = {
    "nothing": b"",
    "bytes": b"\xff\xfe\x00\x01",
    "text": b"null\n",
    "list": b"[1, 2]\n",
    "braces": b"{" * 5000,
    "repeated": f"m0: &m0 [1]\n{REPEATED}".encode(),
}
READERS: dict[str, Callable[[gsim.Results], object]] = {
    "config.yaml": lambda read: read.config,
    "runs.csv": lambda read: read.cells,
    "instances.csv": lambda read: read.instances,
    "paired.csv": lambda read: read.paired,
    "requests.parquet": lambda read: read.requests,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("content", CONTENTS)
def test_a_damaged_file_is_told(whole: Path, tmp_path: Path, name: str, content: str) -> None:
    folder = damaged(whole, tmp_path / "changed", name, CONTENTS[content])
    with pytest.raises(InputError, match=r"changed: its files are not as they were written .*run the experiment again"):
        READERS[name](gsim.load(folder))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda rows: rows[:1], "runs.csv has no row"),
        (lambda rows: [*rows[:-1], rows[-1].rstrip(b"\n")], "runs.csv was cut off in its last row"),
        (lambda rows: [*rows, rows[1]], "runs.csv, row 6: this run stands above already"),
    ],
    ids=["head", "torn", "twice"],
)
def test_runs_that_are_lost_or_there_twice_are_told(
    whole: Path,
    tmp_path: Path,
    changed: Callable[[list[bytes]], list[bytes]],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = (whole / "runs.csv").read_bytes().splitlines(keepends=True)
    folder = damaged(whole, tmp_path / "changed", "runs.csv", b"".join(changed(rows)))
    for words in (["report", str(folder)], ["compare", f"{folder}:random", f"{whole}:round_robin"]):
        assert main(words) == 1
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["config.yaml", "runs.csv", "provenance.json"])
def test_commands_that_read_folders_say_it_too(
    whole: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = damaged(whole, tmp_path / "changed", name, b"[1")
    assert main(["report", str(folder)]) == 1
    assert "changed: its files are not as they were written" in capsys.readouterr().err
    if name != "provenance.json":
        assert main(["compare", f"{folder}:random", f"{whole}:round_robin"]) == 1
        assert "changed: its files are not as they were written" in capsys.readouterr().err


def test_values_are_told_apart_by_all_their_digits(whole: Path) -> None:
    read = gsim.load(whole)
    rates = {cell.point["trace.rate_per_s"] for cell in read.cells}
    assert rates == {40.0, 40.0000000001}
    assert {len(cell.runs) for cell in read.cells} == {1}
    assert set(read.paired["trace.rate_per_s"]) == rates


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").symlink_to("runs.csv")
    with pytest.raises(InputError, match="no results here"):
        gsim.load(tmp_path)
