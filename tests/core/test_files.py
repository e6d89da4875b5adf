"""Files: text with its encoding, whatever the locale; outputs all or nothing."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

import gsim
from gsim.core import InputError
from gsim.core.files import write_whole, written

PACKAGE = Path(gsim.__file__).parent


def _without_encoding(file: Path) -> list[str]:
    found = []
    source = file.read_text(encoding="utf-8")
    if "open(" not in source and "_text(" not in source:
        return []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        binary = any(isinstance(a, ast.Constant) and isinstance(a.value, str) and "b" in a.value for a in node.args[:2])
        opens = name in ("read_text", "write_text") or (name == "open" and not binary and _of_a_file(node))
        if opens and not any(keyword.arg in ("encoding", None) for keyword in node.keywords):
            found.append(f"{file}:{node.lineno}")
    return found


def _of_a_file(call: ast.Call) -> bool:
    """``open(path ...)`` and ``path.open("r" ...)``, not a method of that name with other arguments."""
    if isinstance(call.func, ast.Name):
        return True
    return not call.args or isinstance(call.args[0], ast.Constant)


def test_every_text_file_names_its_encoding() -> None:
    assert [place for file in sorted(PACKAGE.rglob("*.py")) for place in _without_encoding(file)] == []


#: What writes to a name: it must be one beside the output's, or lie in a folder whose files come all at once.
WRITERS = ("write_text", "write_bytes", "to_csv", "to_parquet", "savefig")
ASIDE = ("aside", "stage")
#: Functions that are handed such a name, or write what is no output; who calls them is looked at here as well.
HANDED = {
    "cli/launch.py": "_timeline, write_findings: into the stage",
    "cli/sweep.py": "the cells of a multirun, for its workers",
    "inspect/timeline.py": "write_timeline: into the stage",
    "report/report_run.py": "into the stage",
    "run/pulse.py": "where the clock is",
    "run/store.py": "a probe; runs are written aside",
    "study/figure.py": "save: into the stage",
    "study/kept.py": "written aside",
    "study/results.py": "into the stage",
    "study/shown.py": "into memory, for a notebook",
    "validation/studies/composed_profiles.py": "into a folder that is thrown away",
}


def _in_place(file: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name = node.func.attr
        opened = any(isinstance(a, ast.Constant) and str(a.value) in ("w", "wt", "wb") for a in node.args[:2])
        if name in WRITERS or (name == "open" and opened):
            to = f"{ast.unparse(node.func.value)} {' '.join(ast.unparse(arg) for arg in node.args[:1])}"
            if not any(word in to for word in ASIDE):
                found.append(f"{file.relative_to(PACKAGE).as_posix()}:{node.lineno}")
    return found


def test_every_output_is_written_aside_and_takes_its_name_whole() -> None:
    places = [place for file in sorted(PACKAGE.rglob("*.py")) for place in _in_place(file)]
    assert [place for place in places if place.partition(":")[0] not in HANDED] == []


def _fill_the_disk(file: Path) -> None:
    with written(file) as aside:
        aside.write_text("half", encoding="utf-8")
        raise OSError(28, "disk full")


def test_what_fails_halfway_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "report.md"
    write_whole(file, "before")
    with pytest.raises(InputError, match=r"report.md: cannot be written: .*full"):
        _fill_the_disk(file)
    assert file.read_text(encoding="utf-8") == "before"
    assert os.listdir(tmp_path) == ["report.md"]


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "real.txt")
    write_whole(link, "through")
    assert link.is_symlink()
    assert (tmp_path / "real.txt").read_text(encoding="utf-8") == "through"
    write_whole(Path(os.devnull), "nothing")
    assert not Path(os.devnull).is_file()
