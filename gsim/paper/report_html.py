"""The report as one self-contained HTML page: figures are inside the file, nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from gsim.paper.claims import Claim
from gsim.paper.report import Report, Section, Table

_OPEN_ROWS = (30, 12)
"""Longer tables are folded: the first of a section, and the others."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 66rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem } h2 { font-size: 1.25rem } section { margin-top: 3rem; border-top: 1px solid #ddd }
nav ol { columns: 2; padding-left: 1.5rem; margin: 0 } nav li { break-inside: avoid; padding-right: 1rem }
nav span { color: #555; font-size: .85rem; display: block } a { color: #0072B2 }
.question { font-weight: 600 } .paper { border-left: 3px solid #ddd; padding-left: .8rem; color: #444 }
.setup, .command, footer { color: #555; font-size: .85rem } code { background: #f4f4f4; padding: .1rem .3rem }
img { max-width: 100%; max-height: 34rem; display: block; margin: 1rem 0 }
.scroll { overflow-x: auto; margin: .5rem 0 1rem } details { margin: .8rem 0 } summary { cursor: pointer }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap }
thead th { border-bottom: 1px solid #999 } th:first-child, td:first-child { text-align: left }
tbody tr:hover { background: #f7f7f7 }
.claims td, .claims th { text-align: left; white-space: normal; vertical-align: top; line-height: 1.4 }
.claims td:nth-child(1), .claims td:nth-child(3) { white-space: nowrap }
.claims td:nth-child(3) { font-weight: 600 }
.seen { color: #00694d } .not { color: #a34400 } .left { color: #666 }
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
        f"<footer><p>{escape(report.footer)}</p></footer></body></html>\n"
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
    parts += [_image(path, section.question) for path in section.figures]
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
