"""``python -m gsim reference results``: every column of every file that a study leaves."""

from __future__ import annotations

from gsim.report.columns import FILES

_HEAD = """\
# Results files

Made by `python -m gsim reference results`; do not edit. A study leaves these files in its results folder
([what it leaves](studies.md#what-it-leaves)); an empty cell means that there is no such value. Swept fields are columns
too, named as on the command line. Times are seconds of simulated time where the name ends in `_s`, milliseconds where
it ends in `_ms`. Names that `vllm bench serve` has too mean the same there.
"""


def results_page() -> str:
    """The page."""
    lines = [_HEAD]
    for name, file in FILES.items():
        lines += [f"## {name}", "", f"A row is {file.row}.", "", "| column | meaning |", "| --- | --- |"]
        lines += [f"| `{column}` | {meaning} |" for column, meaning in file.columns.items()]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"
