"""The report as Markdown, its figures as files beside it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from gsim.paper.claims import Claim
from gsim.paper.report import Report, Section

_MOST_ROWS = 20
"""Longer tables are left to the results folder."""
_FIGURES = "figures"


def write_markdown(report: Report, path: Path) -> None:
    """Write the page, and its figures into ``figures`` beside it."""
    folder = path.parent / _FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    for section in report.sections:
        for figure in section.figures:
            shutil.copyfile(figure, folder / _file(section, figure))
    path.write_text(markdown_report(report), encoding="utf-8")


def markdown_report(report: Report) -> str:
    """The page."""
    lines = [f"# {report.title}", "", report.intro, "", *_claims(report.claims), "## Contents", ""]
    lines += [f"- [{section.name}](#{section.name}): {section.question}" for section in report.sections]
    for section in report.sections:
        lines += ["", *_section(section)]
    return "\n".join([*lines, "", report.footer, ""])


def _claims(claims: Sequence[Claim]) -> Iterator[str]:
    if claims:
        yield from ("## What the paper claims, and what is found", "")
        yield from _rows(
            ("where", "the paper says", "verdict", "what is found"),
            [(c.where, f"{c.claim} ([{c.experiment}](#{c.experiment}))", c.verdict.value, c.found) for c in claims],
        )
        yield ""


def _section(section: Section) -> Iterator[str]:
    yield from (f"## {section.name}", "", f"**{section.question}**", "")
    if section.paper:
        yield from (f"The paper: {section.paper}", "")
    for figure in section.figures:
        yield from (f"![{section.name}]({_FIGURES}/{_file(section, figure)})", "")
    yield from (f"- {finding}" for finding in section.findings)
    yield ""
    for table in section.tables:
        if len(table.rows) <= _MOST_ROWS:
            yield from (f"{table.title}:", "", *_rows(table.header, table.rows), "")
    yield from (section.setup, "", f"`{section.command}`")


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for line in (header, ["---"] * len(header), *rows):
        yield "| " + " | ".join(text.replace("|", "\\|") for text in line) + " |"


def _file(section: Section, figure: Path) -> str:
    return f"{section.name}-{figure.name}"
