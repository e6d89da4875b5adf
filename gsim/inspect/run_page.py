"""A run as one page that opens anywhere: who was in time, who missed and why, every instance over time, stories.

``python -m gsim page ...`` and ``Run.page`` write it. Everything is inside the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.core.files import write_whole
from gsim.inspect.explain import tell
from gsim.inspect.missed import by_cause, missed, worst
from gsim.inspect.run_drawing import COLOURS, LEFT, RIGHT, WIDTH, arrivals_drawing, strips
from gsim.inspect.run_page_style import SCRIPT, STYLE
from gsim.inspect.story import logged, stories
from gsim.metrics.misses import CAUSES
from gsim.report.page import document, table
from gsim.report.wording import number
from gsim.run.cell import Finished, finish
from gsim.run.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

_SAMPLES = 1000
_LEAST_INTERVAL_S = 0.02
_RULE = (
    "One cause each, by a rule: the first that is true, of: {order}. A cause names what happened to a request. It does "
    "not say that it would have been in time elsewhere."
)


def leave_page(settings: Settings, seed: int, title: str, command: str, path: Path) -> int:
    """Simulate the run of this seed, logged and sampled, and write its page; how many requests missed."""
    finished = finish(logged(settings, _interval_s(settings)), seed)
    page, misses = run_page(finished, title, command)
    write_whole(path, page)
    return misses


def _interval_s(settings: Settings) -> float:
    """How often instances are sampled: as configured, else a thousand times where the run's end is known."""
    asked = settings.choices["telemetry"].fields.get("sample_interval_s")
    if asked is not None:
        return float(asked)
    end_s = settings.horizon.end_s if not settings.auto and settings.horizon is not None else math.inf
    return max(_LEAST_INTERVAL_S, end_s / _SAMPLES) if math.isfinite(end_s) else 0.1


def run_page(finished: Finished, title: str, command: str) -> tuple[str, int]:
    """The page of a run that was logged and sampled, and how many of its requests missed.

    ``command`` is the command line of this run without what is asked of it (``router=random seed=3``); empty where
    there is none, as for a run of objects.
    """
    misses = missed(finished)
    causes = by_cause(misses)
    metrics = finished.summary["metrics"]
    head = (
        f"{metrics['requests']:.0f} requests counted, {metrics['attainment']:.1%} in time, "
        f"{number(metrics['goodput_rps'])} good requests/s, {len(misses)} missed"
    )
    told = worst(misses)
    parts = [
        f"<h1>{escape(title)}</h1><p class='question'>{head}</p>{_setup(finished.settings)}",
        _classes(finished),
        _reasons(causes, misses),
        _over_time(finished, misses, [cause for cause, _ in causes]),
        _worst(told, len(misses)),
        _stories(finished, told),
        _asked_again(command),
    ]
    return document(title, "".join(parts), STYLE, SCRIPT), len(misses)


def _setup(settings: Settings) -> str:
    chosen = ", ".join(f"{group} {choice.name}" for group, choice in settings.choices.items() if choice.name != "none")
    values = json.dumps(settings.plain(), indent=1, default=str)
    return (
        f'<p class="setup">{escape(chosen)}</p><details class="setup"><summary>The whole configuration</summary>'
        f"<pre>{escape(values)}</pre></details>"
    )


def _classes(finished: Finished) -> str:
    rows = finished.rows.to_pandas()
    counted = rows[rows["counted"]]
    body = []
    for task, own in counted.groupby("task", observed=True):
        e2e_s = own["e2e_s"].to_numpy()
        done = e2e_s[~np.isnan(e2e_s)]
        p50, p99 = np.quantile(done, (0.5, 0.99)) if len(done) else (math.nan, math.nan)
        good = int(own["good"].sum())
        share = good / len(own)
        bar = f'<meter min="0" max="1" value="{share:.4f}">{share:.1%}</meter>'
        figures = [
            str(len(own)),
            str(good),
            f"{share:.1%}",
            number(float(own["slo_s"].median())),
            number(p50),
            number(p99),
        ]
        body.append([escape(str(task)) or "(no class)", *figures, bar])
    header = ["class", "requests", "in time", "attainment", "median SLO s", "p50 E2E s", "p99 E2E s", ""]
    return f"<section><h2>Attainment by class</h2>{table(header, body)}</section>"


def _reasons(causes: Sequence[tuple[str, pd.DataFrame]], misses: pd.DataFrame) -> str:
    if not causes:
        return "<section><h2>Who missed, and why</h2><p>Nobody: every counted request was good.</p></section>"
    body = []
    for k, (cause, own) in enumerate(causes):
        swatch = f'<svg width="12" height="12"><rect width="12" height="12" fill="{COLOURS[k % len(COLOURS)]}"/></svg>'
        at = own["instance"].astype(str).replace("", "(nowhere)").value_counts()
        where = ", ".join(
            f"{escape(name)} {count}" for name, count in zip(at.index[:3].astype(str), at, strict=False) if count
        )
        button = f'<button data-cause="{escape(cause)}">{swatch} {escape(cause)}</button>'
        late = number(float(own["late_s"].median())) if own["late_s"].notna().any() else "-"
        figures = [str(len(own)), f"{len(own) / len(misses):.1%}", late]
        body.append([button, *figures, where, escape(CAUSES[cause])])
    header = ["cause", "requests", "of all misses", "median late s", "most on", "what it says"]
    return (
        f'<section><h2>Who missed, and why</h2><p class="setup">{_RULE.format(order=", ".join(CAUSES))} '
        f"Press a cause to see only its requests below.</p>{table(header, body, 'causes')}</section>"
    )


def _over_time(finished: Finished, misses: pd.DataFrame, causes: Sequence[str]) -> str:
    result = finished.result
    rows = finished.rows.to_pandas()
    arrivals = rows.loc[rows["counted"], "arrival_s"].to_numpy()
    by_arrival = arrivals_drawing(arrivals, misses, causes, result.duration_s)
    shown, drawn, numbers = strips(result, misses)
    legend = "".join(
        f'<span><svg width="16" height="8"><path class="{kind}" d="M0 4h16"/></svg> {name}</span>'
        for kind, name in (("batch", "batch"), ("queue", "queue"), ("kv", "KV usage"), ("due", "a deadline passed"))
    )
    legend += (
        '<span><svg width="10" height="8"><path class="move" d="M2 6h6L5 1z"/></svg> moved away, or (below) here</span>'
    )
    legend += '<span><svg width="10" height="8"><rect class="down" width="10" height="8"/></svg> not up</span>'
    left = len(result.instances) - len(shown)
    more = f"<p>{left} more instances, with fewer misses, are not drawn.</p>" if left else ""
    data = json.dumps({"end": result.duration_s, "left": LEFT, "right": RIGHT, "width": WIDTH, "strips": numbers})
    return (
        '<section class="chart"><h2>Over time</h2><figure><figcaption>Requests by arrival (grey), and those of '
        f"them that missed, by cause</figcaption>{by_arrival}</figure>"
        f'<p class="legend">{legend}</p>{drawn}{more}'
        f'<script type="application/json" id="samples">{data}</script></section>'
    )


def _worst(told: pd.DataFrame, total: int) -> str:
    if not total:
        return ""
    body = []
    for row in _rows(told):
        shape = [str(row["prompt_tokens"]), str(row["output_tokens"]), _or_none(row["predicted_tokens"])]
        when = [number(row["arrival_s"]), number(row["slo_s"]), _or_none(row["late_s"])]
        link = f'<a href="#r{row["request_id"]}">{row["request_id"]}</a>'
        who = [escape(str(row[name])) for name in ("cause", "task", "instance")]
        body.append([link, *who, *when, *shape])
    header = ["request", "cause", "class", "instance", "arrived s", "SLO s", "late s", "prompt", "output", "predicted"]
    return (
        f"<section><h2>The worst</h2><p class='setup'>{len(told)} of {total}: the latest, some of every cause. "
        f"A number leads to the request's story.</p>{table(header, body, 'worst')}</section>"
    )


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _or_none(value: float) -> str:
    return "-" if math.isnan(value) else number(value)


def _stories(finished: Finished, told: pd.DataFrame) -> str:
    if not len(told):
        return ""
    known: dict[int, Any] = stories(finished.result)
    parts = []
    for row in _rows(told):
        request = int(row["request_id"])
        late = "" if math.isnan(row["late_s"]) else f", {number(row['late_s'])} s late"
        story = escape(tell(known[request], finished.result))
        head = f"request {request}: {escape(str(row['cause']))}{late}"
        parts.append(f'<details id="r{request}"><summary>{head}</summary><pre>{story}</pre></details>')
    return f"<section class='stories'><h2>Their stories</h2>{''.join(parts)}</section>"


def _asked_again(command: str) -> str:
    if not command:
        return ""
    explain, timeline = (f"python -m gsim {what} {command}" for what in ("explain request=ID", "timeline"))
    return (
        "<section><h2>Any other request</h2><p>The run is simulated again, the same to the last bit:</p>"
        f"<p><code>{escape(explain)}</code></p><p>Every request on a time line, for Perfetto:</p>"
        f"<p><code>{escape(timeline)}</code></p></section>"
    )
