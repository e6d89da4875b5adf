"""The report as Markdown: a page of verdicts, a page per experiment in a folder of its name, figures beside them."""

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
    """Write the page of verdicts to ``path`` (``DIR/NAME.md``), each experiment's page to ``DIR/NAME/EXPERIMENT.md``.

    Figures go into ``DIR/figures``. Pages of experiments that are not in the report stay as they are.
    """
    figures, pages = path.parent / _FIGURES, path.with_suffix("")
    for folder in (figures, pages):
        folder.mkdir(parents=True, exist_ok=True)
    for section in report.sections:
        for figure in section.figures:
            shutil.copyfile(figure, figures / _file(section, figure))
        page = section_page(section, f"../{path.name}", f"../{_FIGURES}")
        (pages / f"{section.name}.md").write_text(page, encoding="utf-8")
    path.write_text(verdicts_page(report, pages.name), encoding="utf-8")


def verdicts_page(report: Report, pages: str) -> str:
    """What the paper claims and what is found, and where each experiment's page is (in the folder ``pages``)."""
    lines = [f"# {report.title}", "", report.intro, "", *_claims(report.claims, pages), "## Experiments", ""]
    lines += [f"- [{section.name}]({pages}/{section.name}.md): {section.question}" for section in report.sections]
    return "\n".join([*lines, "", report.footer, ""])


def section_page(section: Section, verdicts: str, figures: str) -> str:
    """One experiment's page; ``verdicts`` and ``figures`` say where the others are, seen from it."""
    return "\n".join([*_section(section, figures), "", f"[The paper's claims, and what ± means]({verdicts})", ""])


def _claims(claims: Sequence[Claim], pages: str) -> Iterator[str]:
    if claims:
        yield from ("## What the paper claims, and what is found", "")
        yield from _rows(
            ("where", "the paper says", "verdict", "what is found"),
            [
                (c.where, f"{c.claim} ([{c.experiment}]({pages}/{c.experiment}.md))", c.verdict.value, c.found)
                for c in claims
            ],
        )
        yield ""


def _section(section: Section, figures: str) -> Iterator[str]:
    yield from (f"# {section.name}", "", f"**{_text(section.question)}**", "")
    if section.paper:
        yield from (f"The paper: {_text(section.paper)}", "")
    for figure in section.figures:
        yield from (f"![{section.name}]({figures}/{_file(section, figure)})", "")
    yield from (f"- {_text(finding)}" for finding in section.findings)
    yield ""
    for table in section.tables:
        if len(table.rows) <= _MOST_ROWS:
            yield from (f"{_text(table.title)}:", "", *_rows(table.header, table.rows), "")
    yield from (section.setup, "", f"`{section.command}`")


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for line in (header, ["---"] * len(header), *rows):
        yield "| " + " | ".join(_text(text).replace("|", "\\|") for text in line) + " |"


def _text(text: str) -> str:
    """Text that stays text: nothing in it is taken for HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _file(section: Section, figure: Path) -> str:
    return f"{section.name}-{figure.name}"
