"""Results folders as a report: question, set-up, figure, tables, findings; one HTML file, or Markdown."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gsim.metrics import mean_interval, paired_difference
from gsim.study.loading import load
from gsim.study.table import number

#: The label under which experiments run GoodServe as published (just enough, and migration).
GOODSERVE = "GoodServe"
_MOST_ROWS = 60


@dataclass(frozen=True)
class Table:
    """A table as text."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """One experiment in the report."""

    name: str
    question: str
    paper: str
    setup: str
    command: str
    figures: Sequence[Path]
    tables: Sequence[Table]
    findings: Sequence[str]


def read_section(folder: Path, command: str) -> Section:
    """A results folder as a section of the report."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    findings = folder / "findings.txt"
    return Section(
        name=str(config["name"]),
        question=str(config.get("question") or ""),
        paper=str(config.get("paper") or ""),
        setup=_setup(config),
        command=command,
        figures=sorted(folder.glob("*.png")),
        tables=_sweep_tables(folder, config) if (folder / "runs.csv").exists() else _study_tables(folder),
        findings=[*_gains(folder), *(findings.read_text().splitlines() if findings.exists() else [])],
    )


def _setup(config: dict[str, Any]) -> str:
    """What was run, in a sentence."""
    pool = ", ".join(f"{g['count'] * config['pool']['copies']} {g['profile']}" for g in config["pool"]["instances"])
    trace = {k: v for k, v in config["trace"].items() if k not in ("name",) and isinstance(v, int | float | str)}
    slo = {k: v for k, v in config["slo"].items() if k != "name"}
    swept = "; ".join(f"{field}: {_listed(values)}" for field, values in (config.get("sweep") or {}).items())
    parts = [
        f"Pool: {pool}.",
        f"Trace: {config['trace']['name']} ({', '.join(f'{k} {v}' for k, v in trace.items() if v != '')}).",
        f"SLO: {config['slo']['name']} ({', '.join(f'{k} {v}' for k, v in slo.items())}).",
        f"Predictor: {config['predictor']['name']}.",
        f"Seeds: {config['seeds']}; warm-up cut {config['warmup_s']} s.",
    ]
    return " ".join([*parts, f"Swept: {swept}."] if swept else parts)


def _listed(values: list[Any]) -> str:
    words = [v.get("label") or " + ".join(map(str, v.values())) if isinstance(v, dict) else str(v) for v in values]
    return ", ".join(words)


def _sweep_tables(folder: Path, config: dict[str, Any]) -> list[Table]:
    results = load(folder)
    asked = (config.get("figure") or {}).get("y") or ["goodput_rps", "attainment"]
    tables = []
    for metric in [asked] if isinstance(asked, str) else asked:
        pivot: dict[str, dict[str, str]] = {}
        for cell in results.cells:
            mean, low, high = mean_interval(cell.metric(metric))
            text = number(mean) + (f" ± {number((high - low) / 2)}" if low == low else "")
            at = ", ".join(number(v) if isinstance(v, float) else str(v) for v in cell.point.values())
            pivot.setdefault(cell.label, {})[at or "all"] = text
        columns = list(dict.fromkeys(column for row in pivot.values() for column in row))
        rows = [[policy, *(row.get(column, "") for column in columns)] for policy, row in pivot.items()]
        tables.append(Table(f"{metric} by {', '.join(results.points) or 'policy'}", ["policy", *columns], rows))
    return tables


def _study_tables(folder: Path) -> list[Table]:
    import pandas as pd

    tables = []
    for path in sorted(folder.glob("*.csv")):
        frame = pd.read_csv(path)
        rows = [[number(v) if isinstance(v, float) else str(v) for v in row] for row in frame.head(_MOST_ROWS).values]
        tables.append(Table(path.stem, [str(column) for column in frame.columns], rows))
    return tables


def _gains(folder: Path) -> list[str]:
    """GoodServe's gain in goodput over every other policy: at the grid point where it is largest, paired over seeds."""
    if not (folder / "runs.csv").exists():
        return []
    results = load(folder)
    runs, points = results.runs, results.points
    if GOODSERVE not in set(runs["policy"]):
        return []
    found = []
    for policy in dict.fromkeys(p for p in runs["policy"] if p != GOODSERVE):
        gains = []
        for point, group in runs.groupby(points, sort=False) if points else [((), runs)]:
            both = group.pivot_table(index="seed", columns="policy", values="goodput_rps")
            # A control that serves next to nobody is no base for a percentage.
            if policy in both and GOODSERVE in both and both[policy].mean() > 0.05 * both[GOODSERVE].mean():
                base = float(both[policy].mean())
                result = paired_difference(both[GOODSERVE].to_numpy(), both[policy].to_numpy())
                gains.append((result.mean / base, result.low / base, result.high / base, result.significant, point))
        if gains:
            gain, low, high, significant, point = max(gains, key=lambda g: g[0])
            at = ", ".join(f"{f}={number(v) if isinstance(v, float) else v}" for f, v in zip(points, _tuple(point)))
            said = "" if significant else "; not significant"
            found.append(
                f"Largest gain of GoodServe over {policy}: {gain:+.1%} goodput at {at or 'the one point'} "
                f"(95 % interval {low:+.1%} to {high:+.1%}{said})"
            )
    return found


def _tuple(point: Any) -> tuple[Any, ...]:
    return point if isinstance(point, tuple) else (point,)


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem } h2 { margin-top: 3rem; border-top: 1px solid #ddd; padding-top: 1rem; font-size: 1.25rem }
nav { columns: 2; margin: 1rem 0 } nav a, a { color: #0072B2 }
.setup, .command, footer { color: #555; font-size: .9rem }
img { max-width: 100%; display: block; margin: 1rem 0 } code { background: #f4f4f4; padding: .1rem .3rem }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding: .4rem 0 } .scroll { overflow-x: auto; margin: 1rem 0 }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap }
th:first-child, td:first-child { text-align: left } details { margin: 1rem 0 } summary { cursor: pointer }
"""


def html_report(title: str, intro: str, sections: Sequence[Section], footer: str) -> str:
    """One self-contained page: figures are inside the file."""
    links = "".join(f'<a href="#{s.name}">{html.escape(s.name)}</a><br>' for s in sections)
    body = "".join(_html_section(section) for section in sections)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{html.escape(title)}</h1><p>{html.escape(intro)}</p><nav>{links}</nav>{body}"
        f"<footer><p>{html.escape(footer)}</p></footer></body></html>\n"
    )


def _html_section(section: Section) -> str:
    parts = [f'<section id="{section.name}"><h2>{html.escape(section.name)}</h2>']
    parts.append(f"<p><strong>{html.escape(section.question)}</strong></p>")
    if section.paper:
        parts.append(f"<p>The paper: {html.escape(section.paper)}</p>")
    for figure in section.figures:
        data = base64.b64encode(figure.read_bytes()).decode()
        parts.append(f'<img alt="{html.escape(section.question)}" src="data:image/png;base64,{data}">')
    if section.findings:
        parts.append("<p>We find:</p><ul>" + "".join(f"<li>{html.escape(f)}</li>" for f in section.findings) + "</ul>")
    for table in section.tables:
        head = "".join(f"<th>{html.escape(text)}</th>" for text in table.header)
        rows = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in table.rows)
        parts.append(
            f"<details{' open' if len(table.rows) <= 12 else ''}><summary>{html.escape(table.title)}</summary>"
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>'
        )
    parts.append(f'<p class="setup">{html.escape(section.setup)}</p>')
    parts.append(f'<p class="command"><code>{html.escape(section.command)}</code></p></section>')
    return "".join(parts)


def markdown_report(title: str, intro: str, sections: Sequence[Section], footer: str, figures: str) -> str:
    """The same as Markdown; images are ``figures/EXPERIMENT-FILE.png`` beside it."""
    lines = [f"# {title}", "", intro, ""]
    for section in sections:
        lines += [f"## {section.name}", "", f"**{section.question}**", ""]
        lines += [f"The paper: {section.paper}", ""] if section.paper else []
        lines += [f"![{section.name}]({figures}/{section.name}-{path.name})" for path in section.figures]
        lines += ["", *(f"- {finding}" for finding in section.findings), ""]
        for table in section.tables:
            if len(table.rows) <= 20:
                lines += [f"{table.title}:", "", "| " + " | ".join(table.header) + " |"]
                lines += ["|" + "---|" * len(table.header)]
                lines += ["| " + " | ".join(row) + " |" for row in table.rows] + [""]
        lines += [f"{section.setup}", "", f"`{section.command}`", ""]
    return "\n".join([*lines, footer, ""])
