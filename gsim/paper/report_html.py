"""The report as one self-contained HTML page: drawings are inside the file, nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from gsim.paper.chart import charts
from gsim.paper.claims import Claim
from gsim.paper.report import Report, Section, Table

_OPEN_ROWS = (30, 12)
"""Longer tables are folded: the first of a section, and the others."""

_STYLE = """
:root { --ink: #1a1a1a; --paper: #fff; --soft: #555; --rule: #ddd; --tint: #f4f4f4; --link: #0072B2; --yes: #00694d;
  --no: #a34400; color-scheme: light dark }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #16181c; --soft: #a8a8a8; --rule: #3a3d44;
  --tint: #24272d; --link: #6cb8ee; --yes: #5fd0ac; --no: #f0a060 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 66rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem } h2 { font-size: 1.25rem } section { margin-top: 3rem; border-top: 1px solid var(--rule) }
nav ol { columns: 2; padding-left: 1.5rem; margin: 0 } nav li { break-inside: avoid; padding-right: 1rem }
nav span { color: var(--soft); font-size: .85rem; display: block } a { color: var(--link) }
.question { font-weight: 600 } .paper { border-left: 3px solid var(--rule); padding-left: .8rem; color: var(--soft) }
.setup, .command, footer { color: var(--soft); font-size: .85rem }
code { background: var(--tint); padding: .1rem .3rem }
img { max-width: 100%; max-height: 34rem; display: block; margin: 1rem 0; background: #fff }
.scroll { overflow-x: auto; margin: .5rem 0 1rem } details { margin: .8rem 0 } summary { cursor: pointer }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap }
thead th { border-bottom: 1px solid var(--soft); cursor: pointer }
thead th[aria-sort=ascending]::after { content: " \\2191" }
thead th[aria-sort=descending]::after { content: " \\2193" } th:first-child, td:first-child { text-align: left }
tbody tr:hover { background: var(--tint) }
.claims td, .claims th { text-align: left; white-space: normal; vertical-align: top; line-height: 1.4 }
.claims td:nth-child(1), .claims td:nth-child(3) { white-space: nowrap } .claims td:nth-child(3) { font-weight: 600 }
.seen { color: var(--yes) } .not { color: var(--no) } .left { color: var(--soft) }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 1rem }
figure { margin: 0 } figcaption { font-size: .9rem; font-weight: 600 }
.chart text { font-size: 11px; fill: var(--soft) }
.chart .grid { stroke: var(--rule) } .legend label { margin-right: 1.2rem; font-size: .85rem; white-space: nowrap }
@media print { body { max-width: none; margin: 0 } section { break-inside: avoid-page } .legend input { display: none }
  .scroll { overflow: visible } }
"""

_SCRIPT = """
for (const box of document.querySelectorAll(".legend input")) box.addEventListener("change", () => {
  for (const line of box.closest(".chart").querySelectorAll(`g[data-policy="${box.dataset.policy}"]`))
    line.style.display = box.checked ? "" : "none"
})
const number = text => { const found = parseFloat(text.replace(/^[^-+.\\d]*/, "")); return isNaN(found) ? null : found }
for (const head of document.querySelectorAll("thead th")) head.addEventListener("click", () => {
  const table = head.closest("table"), up = head.getAttribute("aria-sort") !== "ascending"
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort")
  head.setAttribute("aria-sort", up ? "ascending" : "descending")
  const told = row => row.cells[head.cellIndex].textContent
  const order = (a, b) => number(told(a)) === null || number(told(b)) === null
    ? told(a).localeCompare(told(b)) : number(told(a)) - number(told(b))
  const rows = [...table.tBodies[0].rows].sort((a, b) => up ? order(a, b) : order(b, a))
  table.tBodies[0].append(...rows)
})
// What is folded is printed too.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(part => part.open = true))
"""


def html_report(report: Report) -> str:
    """The page."""
    links = "".join(
        f'<li><a href="#{s.name}">{escape(s.name)}</a><span>{escape(s.question)}</span></li>' for s in report.sections
    )
    body = "".join(_section(section) for section in report.sections)
    known = {section.name for section in report.sections}
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(report.title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(report.title)}</h1><p>{escape(report.intro)}</p>{_claims(report.claims, known)}"
        f"<nav><h2>Contents</h2><ol>{links}</ol></nav>{body}"
        f"<footer><p>{escape(report.footer)}</p></footer><script>{_SCRIPT}</script></body></html>\n"
    )


def _claims(claims: Sequence[Claim], known: set[str]) -> str:
    if not claims:
        return ""
    rows = []
    for claim in claims:
        where = escape(claim.experiment)
        link = f'<a href="#{where}">{where}</a>' if claim.experiment in known else where
        style = claim.verdict.value.partition(" ")[0]
        rows.append(
            f"<tr><td>{escape(claim.where)}</td><td>{escape(claim.claim)}<br>{link}</td>"
            f'<td class="{style}">{escape(claim.verdict.value)}</td><td>{escape(claim.found)}</td></tr>'
        )
    head = "".join(f"<th>{name}</th>" for name in ("Where", "The paper says", "Verdict", "What is found"))
    return (
        "<h2>What the paper claims, and what is found</h2>"
        f'<div class="scroll"><table class="claims"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _section(section: Section) -> str:
    parts = [f'<section id="{section.name}"><h2>{escape(section.name)}</h2>']
    parts.append(f'<p class="question">{escape(section.question)}</p>')
    if section.paper:
        parts.append(f'<p class="paper">The paper: {escape(section.paper)}</p>')
    drawn = "" if section.results is None else charts(section.results)
    images = "".join(_image(path, section.question) for path in section.figures)
    # The drawing that can be asked stands for the figure, which is kept for papers.
    parts.append(
        f"{drawn}<details><summary>The figure</summary>{images}</details>" if drawn and images else drawn + images
    )
    if section.findings:
        parts.append("<p>What we find:</p><ul>" + "".join(f"<li>{escape(f)}</li>" for f in section.findings) + "</ul>")
    for i, table in enumerate(section.tables):
        parts.append(_table(table, is_open=len(table.rows) <= _OPEN_ROWS[i > 0]))
    parts.append(f'<p class="setup">{escape(section.setup)}</p>')
    parts.append(f'<p class="command"><code>{escape(section.command)}</code></p></section>')
    return "".join(parts)


def _image(path: Path, text: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{data}">'


def _table(table: Table, *, is_open: bool) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in table.header)
    rows = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in table.rows)
    return (
        f"<details{' open' if is_open else ''}><summary>{escape(table.title)}</summary>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>'
    )
