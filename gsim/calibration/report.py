"""The fit report: error per region, residual plot, domain. Made offline, from the raw files of a folder."""

from __future__ import annotations

import math
from collections.abc import Hashable
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from gsim.calibration.fit import Fitted, fit_folder, measured_domain, profile_name, region_table
from gsim.calibration.iterations import PREFILL_TIME
from gsim.calibration.measure import relative_half_width
from gsim.calibration.raw import RawStore
from gsim.core.files import write_whole, written
from gsim.core.markdown import plain
from gsim.latency import MixedCost

REPORT = "report.md"
PLOT = "residuals.png"


def report_folder(folder: Path, name: str | None = None) -> str:
    """Fit, then write ``report.md`` and ``residuals.png``; returns the report."""
    fitted = fit_folder(folder, name)
    with written(folder / PLOT) as aside:
        residual_plot(fitted).savefig(aside, dpi=120)
    text = report_text(fitted, folder)
    write_whole(folder / REPORT, text)
    return text


def report_text(fitted: Fitted, folder: Path) -> str:
    """The report in Markdown."""
    meta, tables = fitted.meta, fitted.tables
    domain = measured_domain(tables, fitted.measurements, meta, profile_name(meta))
    taken = RawStore(folder).read()
    dropped: dict[str, int] = {}
    for m in taken:
        if m.dropped:
            reason = m.dropped.partition(":")[0]
            dropped[reason] = dropped.get(reason, 0) + 1
    assumed = f" (assumed, vLLM's defaults: {', '.join(meta['assumed'])})" if meta["assumed"] else ""
    lines = [
        f"# Fit of {plain(domain.profile)}",
        "",
        f"{plain(str(meta['model']))} on {plain(str(meta['gpu']))}, vLLM {plain(str(meta['version']))}, "
        f"flags: {plain(meta['options'].get('flags') or 'not stated')}.",
        f"Limits: {meta['kv_blocks']} KV blocks of {meta['block_size']}, {meta['max_num_seqs']} sequences, "
        f"{meta['max_num_batched_tokens']} batched tokens{assumed}, {meta['max_model_len']} tokens per sequence.",
        "",
        f"{len(fitted.measurements)} repeats count, {len(taken) - len(fitted.measurements)} were dropped"
        + (f" ({plain(', '.join(f'{why}: {count}' for why, count in sorted(dropped.items())))})" if dropped else "")
        + f". {_widths_text(fitted)} {tables.continued} grid cells are continued from their neighbours, "
        f"{tables.smoothed} levelled.",
        "",
        _api_text(fitted),
        "",
        "## Error on what the fit did not see",
        "",
        "Fitted to every other repeat and judged by the rest. Points between the grid's are never fitted at all; of "
        "mixed steps only what they take beyond the sum of a chunk and decodes is.",
        "",
        "| region | points | mean | median size | largest | mean of the plain sum |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row['region']} | {row['points']} | {row['mean_percent']:+.1f} % | {row['median_size_percent']:.1f} % "
            f"| {row['largest_percent']:.1f} % | {_of_mixed(row)} |"
            for row in region_table(fitted.errors).to_dict("records")
        ),
        "",
        _mixed_text(fitted.mixed),
        *_held_text(fitted),
        "",
        f"![residuals]({PLOT})",
        "",
        "## Domain",
        "",
        "| | sequences | tokens in an iteration | context |",
        "|---|---|---|---|",
        *(
            f"| {what} | {extent.sequences} | {extent.batch_tokens} | {extent.context_tokens} |"
            for what, extent in (("measured", domain.measured), ("extrapolated to", domain.limit))
        ),
        "",
    ]
    return "\n".join(lines)


def _api_text(fitted: Fitted) -> str:
    """What the API adds to a request, or that prefills hold it: it cannot be told from the client's time alone."""
    prefills = [m for m in fitted.measurements if m.kind == "prefill"]
    if prefills and all(m.basis == "client" for m in prefills):
        return (
            f"**Prefills were timed by the client**: the server has no `{PREFILL_TIME}`, so what the API adds to a "
            "request is in every prefill of this profile, and in what is put together of prefills and decodes."
        )
    return (
        f"The API adds {1e3 * fitted.overhead.fixed_s:.2f} ms + {1e6 * fitted.overhead.per_prompt_token_s:.2f} us per "
        "prompt token to a request (not part of the profile, which is about iterations)."
    )


def _mixed_text(mixed: MixedCost) -> str:
    if not mixed:
        return "Nothing is added to mixed steps: no rule takes a fifth of their error away."
    added = [f"{1e3 * mixed.iteration_s:.2f} ms"] if mixed.iteration_s else []
    added += [f"{mixed.kv_factor - 1.0:.2f} times their decodes' KV"] if mixed.kv_factor > 1.0 else []
    return f"Mixed steps take {' and '.join(added)} more than the sum of a chunk and decodes."


def _of_mixed(row: dict[Hashable, Any]) -> str:
    return f"{row['plain_sum_mean_percent']:+.1f} %" if str(row["region"]).startswith("mixed") else ""


def _held_text(fitted: Fitted) -> list[str]:
    """What an arrival holds the iterations up that are under way: no part of the profile, but ``judge`` can use it."""
    held = [m.held_s for m in fitted.measurements if math.isfinite(m.held_s)]
    if len(held) < 2:
        return []
    low, middle, high = (1e3 * float(value) for value in np.quantile(held, (0.25, 0.5, 0.75)))
    return [
        f"An arrival holds up the iterations under way by {middle:.2f} ms (quartiles {low:.2f} to {high:.2f}; not part "
        "of the profile: `judge arrival_ms=...` uses it)."
    ]


def _widths_text(fitted: Fitted) -> str:
    values: dict[str, list[float]] = {}
    for m in fitted.measurements:
        values.setdefault(m.point.key, []).append(m.iteration_s)
    widths = [100 * relative_half_width(v) for v in values.values() if len(v) > 1]
    once = len(values) - len(widths)
    if not widths:
        return "Every point was measured once: its spread is unknown."
    return (
        f"The 95 % interval of a point's median is within {median(widths):.1f} % (median over points), "
        f"{max(widths):.1f} % at worst." + (f" {once} points were measured once." if once else "")
    )


def residual_plot(fitted: Fitted) -> Figure:
    """Error in percent against the time that was held out, one colour per region."""
    with matplotlib.rc_context({"axes.grid": True, "grid.alpha": 0.3, "font.size": 9}):
        figure = Figure(figsize=(7.5, 4.0), layout="constrained")
        axes = figure.subplots()
        for name, group in fitted.errors.groupby("region"):
            marker = "x" if "between" in str(name) else "o"
            axes.plot(1e3 * group["held_out_s"], group["error_percent"], marker, label=str(name), markersize=5)
        axes.axhline(0.0, color="black", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xlabel("iteration, held-out repeats (ms)")
        axes.set_ylabel("predicted - measured (%)")
        axes.legend(fontsize=7, loc="best")
    return figure
