"""The report as Markdown: a page of verdicts, a page per experiment in a folder of its name, figures beside them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from gsim.core.files import write_whole
from gsim.core.markdown import code, plain, row, target
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
        write_whole(pages / f"{section.name}.md", page)
    write_whole(path, verdicts_page(report, pages.name))


def verdicts_page(report: Report, pages: str) -> str:
    """What the paper claims and what is found, and where each experiment's page is (in the folder ``pages``)."""
    lines = [f"# {report.title}", "", report.intro, "", *_claims(report.claims, pages), "## Experiments", ""]
    lines += [f"- {_page(section.name, pages)}: {plain(section.question)}" for section in report.sections]
    return "\n".join([*lines, "", report.footer, ""])


def section_page(section: Section, verdicts: str, figures: str) -> str:
    """One experiment's page; ``verdicts`` and ``figures`` say where the others are, seen from it."""
    return "\n".join([*_section(section, figures), "", f"[The paper's claims, and what ± means]({verdicts})", ""])


def _claims(claims: Sequence[Claim], pages: str) -> Iterator[str]:
    if claims:
        yield from ("## What the paper claims, and what is found", "")
        yield from (row(("where", "the paper says", "verdict", "what is found")), "|---|---|---|---|")
        for c in claims:
            said = f"{plain(c.claim)} ({_page(c.experiment, pages)})"
            yield f"| {plain(c.where)} | {said} | {c.verdict.value} | {plain(c.found)} |"
        yield ""


def _section(section: Section, figures: str) -> Iterator[str]:
    yield from (f"# {plain(section.name)}", "", f"**{plain(section.question)}**", "")
    if section.paper:
        yield from (f"The paper: {plain(section.paper)}", "")
    for figure in section.figures:
        yield from (f"![{plain(section.name)}]({target(f'{figures}/{_file(section, figure)}')})", "")
    yield from (f"- {plain(finding)}" for finding in section.findings)
    yield ""
    for table in section.tables:
        if len(table.rows) <= _MOST_ROWS:
            rule = "|" + "---|" * len(table.header)
            yield from (f"{plain(table.title)}:", "", row(table.header), rule, *map(row, table.rows), "")
    yield from (plain(section.setup), "", code(section.command))


def _page(experiment: str, pages: str) -> str:
    """A link to an experiment's page."""
    return f"[{plain(experiment)}]({target(f'{pages}/{experiment}.md')})"


def _file(section: Section, figure: Path) -> str:
    return f"{section.name}-{figure.name}"
