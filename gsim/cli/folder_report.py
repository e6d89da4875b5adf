"""``python -m gsim report DIR``: a results folder as one HTML page."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gsim.core import ConfigError, InputError
from gsim.core.files import write_whole
from gsim.paper.report import Report, read_section
from gsim.paper.report_html import html_report
from gsim.report.loading import as_written


def report_command(words: Sequence[str]) -> Path:
    """Write ``report.html`` into a results folder: its figure to be asked, its tables, findings and runs.

    Raises ``InputError`` where the folder holds no results, or its files are not as they were written.
    """
    if len(words) != 1:
        raise ConfigError("report DIR: one results folder")
    folder = Path(words[0])
    if not (folder / "config.yaml").is_file():
        raise InputError(f"{folder}: no results here (no config.yaml); run the experiment first")
    page = folder / "report.html"
    with as_written(folder):
        section = read_section(folder, _command(folder))
        text = html_report(Report(section.name, "", (), [section], _made_with(folder)))
    write_whole(page, text)
    return page


def _provenance(folder: Path) -> dict[str, Any]:
    path = folder / "provenance.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _command(folder: Path) -> str:
    """The command line that made the folder; empty for one that a program made."""
    told = [str(word) for word in _provenance(folder).get("command", ())]
    return "" if any(word.startswith("gsim.sweep(") for word in told) else shlex.join(told)


def _made_with(folder: Path) -> str:
    versions = _provenance(folder).get("versions", {})
    return f"Made with {', '.join(f'{name} {version}' for name, version in versions.items())}." if versions else ""
