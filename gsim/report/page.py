"""Pieces of a self-contained HTML page: one look, light and dark, printable; tables that are sorted by a click."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

STYLE = """
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
code { background: var(--tint); padding: .1rem .3rem; overflow-wrap: anywhere }
img { max-width: 100%; max-height: 34rem; display: block; margin: 1rem 0; background: #fff }
.scroll { overflow-x: auto; margin: .5rem 0 1rem } details { margin: .8rem 0 } summary { cursor: pointer }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap }
thead th { border-bottom: 1px solid var(--soft); cursor: pointer }
thead th[aria-sort=ascending]::after { content: " \\2191" }
thead th[aria-sort=descending]::after { content: " \\2193" } th:first-child, td:first-child { text-align: left }
tbody tr:hover { background: var(--tint) }
figure { margin: 0 } figcaption { font-size: .9rem; font-weight: 600 }
.chart text { font-size: 11px; fill: var(--soft) }
.chart .grid { stroke: var(--rule) } .legend label { margin-right: 1.2rem; font-size: .85rem; white-space: nowrap }
@media print { body { max-width: none; margin: 0 } section { break-inside: avoid-page } .legend input { display: none }
  .scroll { overflow: visible } }
"""

SCRIPT = """
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


def document(title: str, body: str, style: str = "", script: str = "") -> str:
    """The whole page, which loads nothing; ``style`` and ``script`` are its own, after those of all pages."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}{style}</style></head><body>'
        f"{body}<script>{SCRIPT}{script}</script></body></html>\n"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table of cells that are HTML already, in a box that scrolls on a narrow screen; ``kind`` is its class."""
    head = "".join(f"<th>{escape(text)}</th>" for text in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    named = f' class="{kind}"' if kind else ""
    return f'<div class="scroll"><table{named}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
