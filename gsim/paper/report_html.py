"""The report as one self-contained HTML page: drawings are inside the file, nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from gsim.paper.chart import charts
from gsim.paper.claims import Claim
from gsim.paper.points import runs_of_points
from gsim.paper.report import Report, Section, Table
from gsim.report.page import document, table

_OPEN_ROWS = (30, 12)
"""Longer tables are folded: the first of a section, and the others."""

_STYLE = """
.claims td, .claims th { text-align: left; white-space: normal; vertical-align: top; line-height: 1.4 }
.claims td:nth-child(1), .claims td:nth-child(3) { white-space: nowrap } .claims td:nth-child(3) { font-weight: 600 }
.seen { color: var(--yes) } .not { color: var(--no) } .left { color: var(--soft) }
.runs td:nth-last-child(-n+2), .runs th:nth-last-child(-n+2) { text-align: left; white-space: normal }
.chart a { cursor: pointer } details.runs { margin: .3rem 0 .3rem 1rem }
details:target > summary { outline: 2px solid var(--link) }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1rem }
"""

_SCRIPT = """
// A point leads to its runs, which are folded.
const unfold = () => {
  for (let part = document.getElementById(location.hash.slice(1)); part; part = part.parentElement)
    if (part.tagName === "DETAILS") part.open = true
}
addEventListener("hashchange", unfold); unfold()
for (const box of document.querySelectorAll(".legend input")) box.addEventListener("change", () => {
  for (const line of box.closest(".chart").querySelectorAll(`g[data-policy="${box.dataset.policy}"]`))
    line.style.display = box.checked ? "" : "none"
})
"""


def html_report(report: Report) -> str:
    """The page."""
    links = "".join(
        f'<li><a href="#{s.name}">{escape(s.name)}</a><span>{escape(s.question)}</span></li>' for s in report.sections
    )
    body = "".join(_section(section) for section in report.sections)
    known = {section.name for section in report.sections}
    content = (
        f"<h1>{escape(report.title)}</h1><p>{escape(report.intro)}</p>{_claims(report.claims, known)}"
        f"<nav><h2>Contents</h2><ol>{links}</ol></nav>{body}<footer><p>{escape(report.footer)}</p></footer>"
    )
    return document(report.title, content, _STYLE, _SCRIPT)


def _claims(claims: Sequence[Claim], known: set[str]) -> str:
    if not claims:
        return ""
    rows = []
    for claim in claims:
        where = escape(claim.experiment)
        link = f'<a href="#{where}">{where}</a>' if claim.experiment in known else where
        verdict = f'<span class="{claim.verdict.value.partition(" ")[0]}">{escape(claim.verdict.value)}</span>'
        rows.append([escape(claim.where), f"{escape(claim.claim)}<br>{link}", verdict, escape(claim.found)])
    head = ("Where", "The paper says", "Verdict", "What is found")
    return f"<h2>What the paper claims, and what is found</h2>{table(head, rows, 'claims')}"


def _section(section: Section) -> str:
    parts = [f'<section id="{section.name}"><h2>{escape(section.name)}</h2>']
    parts.append(f'<p class="question">{escape(section.question)}</p>')
    if section.paper:
        parts.append(f'<p class="paper">The paper: {escape(section.paper)}</p>')
    links, runs = (
        ({}, "") if section.results is None else runs_of_points(section.results, section.name, section.command)
    )
    drawn = "" if section.results is None else charts(section.results, links)
    images = "".join(_image(path, section.question) for path in section.figures)
    # The drawing that can be asked stands for the figure, which is kept for papers.
    parts.append(
        f"{drawn}<details><summary>The figure</summary>{images}</details>" if drawn and images else drawn + images
    )
    parts.append(runs)
    if section.findings:
        parts.append("<p>What we find:</p><ul>" + "".join(f"<li>{escape(f)}</li>" for f in section.findings) + "</ul>")
    for i, told in enumerate(section.tables):
        parts.append(_table(told, is_open=len(told.rows) <= _OPEN_ROWS[i > 0]))
    parts.append(f'<p class="setup">{escape(section.setup)}</p>')
    parts.append(f'<p class="command"><code>{escape(section.command)}</code></p></section>')
    return "".join(parts)


def _image(path: Path, text: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{data}">'


def _table(told: Table, *, is_open: bool) -> str:
    rows = [[escape(cell) for cell in row] for row in told.rows]
    return (
        f"<details{' open' if is_open else ''}><summary>{escape(told.title)}</summary>"
        f"{table(told.header, rows)}</details>"
    )
