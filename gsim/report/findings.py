"""What a sweep found, in sentences: who is told from whom, at equal load, and only where there is a level.

Under open load attainment is what is compared (and the goodput of whole sessions, where requests have sessions): all
policies of a point are offered the same. Goodput of *requests* is not: a policy that answers sooner is asked the next
question sooner, which is no merit where everybody is in time. In a closed population both are told, with what each
answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gsim.metrics import Stationarity, interval_of
from gsim.report.wording import level, number, place, title
from gsim.study.knees import LOADS, TARGET, PolicyKnee
from gsim.study.measured import Measured, by_point
from gsim.study.results import Comparison
from gsim.study.steadiness import has_no_level, steadiness

#: The axis of a closed population: a fixed number of agents instead of a rate.
AGENTS = "trace.agents"
#: Growth by this part of what arrives is called beyond capacity; by less, a window's arrivals may vary by chance.
_BEYOND = 0.02
#: Rules of counting (``window.rule`` of a run) of single requests: what a window beyond capacity saw is told, as such.
_OPEN_SESSIONS = "by_session"
_CLOSED_NOTE = (
    "a closed population asks again when it is answered: attainment says who keeps deadlines, goodput also who answers "
    "sooner (a policy that uses a deadline up is asked less, and nobody is late)"
)
_NAMES = {"attainment": "in time", "session_goodput_rps": "whole sessions in time", "goodput_rps": "goodput"}


def _is_closed(results: Sequence[Measured], rule: str) -> bool:
    """A population of agents, whether their number is swept or not."""
    return rule == "by_completion" or any(AGENTS in result.point for result in results)


def compared_metrics(results: Sequence[Measured], asked: Sequence[str], rule: str = "") -> list[str]:
    """By what policies are compared: of goodput and attainment what is comparable here, else the figure's first."""
    if asked and asked[0] not in ("goodput_rps", "attainment", "session_goodput_rps", "session_attainment"):
        return [asked[0]]
    if _is_closed(results, rule):
        return ["attainment", "goodput_rps"]
    sessions = any(np.isfinite(result.metric("session_goodput_rps")).any() for result in results)
    return ["attainment", *(["session_goodput_rps"] if sessions else [])]


def verdicts(results: Sequence[Measured], comparisons: Sequence[Comparison], metric: str, rule: str = "") -> list[str]:
    """Which policy is best by the metric, and which cannot be told from it; points of which the same is true.

    Only policies that have a level are compared. Of single requests (``rule`` not by session), a point where nobody has
    one is compared too, with the word that it is this window's answer.
    """
    said: dict[str, list[Mapping[str, Any]]] = {}
    for group in by_point(results):
        level = [cell for cell in group if not has_no_level(cell)]
        if len(level) >= 2 or len(group) < 2:
            text = _verdict(level, comparisons, metric)
            text += " (without those that have no level)" if text and len(level) < len(group) else ""
        elif rule == _OPEN_SESSIONS:
            text = f"only {level[0].label} has a level" if level else ""
        else:
            text = _verdict(group, comparisons, metric)
            why = "beyond capacity it depends on how long that is" if rule != "by_completion" else "its numbers drift"
            text += f"; of this window alone: {why}" if text else ""
        if text:
            said.setdefault(text, []).append(group[0].point)
    return [": ".join(filter(None, (place(points), text))) for text, points in said.items()]


def sweep_findings(
    results: Sequence[Measured], comparisons: Sequence[Comparison], asked: Sequence[str], rule: str = ""
) -> list[str]:
    """All comparisons of a sweep, each with what it is about."""
    metrics = compared_metrics(results, asked, rule)
    lines = []
    for metric in metrics:
        lines += [
            f"{_NAMES.get(metric) or title(metric)}: {line}" for line in verdicts(results, comparisons, metric, rule)
        ]
    closed = _is_closed(results, rule)
    return [*lines, *([_CLOSED_NOTE] if closed and lines else [])]


def _verdict(group: Sequence[Measured], comparisons: Sequence[Comparison], metric: str) -> str:
    means = {result.label: interval_of(result, metric).mean for result in group}
    known = {label: mean for label, mean in means.items() if mean == mean}
    if len(known) < 2:
        return ""
    lower = metric.endswith("_ms")
    best = (min if lower else max)(known, key=lambda label: known[label])
    here = [
        c
        for c in comparisons
        if c.metric == metric
        and c.point == group[0].point
        and best in (c.first, c.second)
        and c.first in known
        and c.second in known
    ]
    if not here:
        # Paired are only the metrics that policies are judged by; of others the tables tell.
        return ""
    tied = [c.second if c.first == best else c.first for c in here if not c.result.significant]
    if len(tied) == len(known) - 1:
        return "no policy can be told from another"
    if tied:
        return f"best is {best} ({number(known[best])}); not to be told from it: {', '.join(tied)}"
    nearest = min(abs(c.result.mean) for c in here)
    return f"best is {best} ({number(known[best])}), ahead of every other by {number(nearest)} or more"


def drift_sentences(results: Sequence[Measured]) -> list[str]:
    """What is said of grid points where policies have no level, or where that cannot be told."""
    said: list[str] = []
    unsaid: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    groups = by_point(results)
    for group in groups:
        told = {cell.label: steadiness(cell) for cell in group}
        where = place([group[0].point])
        drifting = {label: one for label, one in told.items() if one.stationary is False}
        if drifting:
            own = [cell for cell in group if cell.label in drifting]
            carried = {cell.label: _carried_beyond(cell, results) for cell in own}
            beyond = {
                cell.label: drifting[cell.label]
                for cell in own
                if drifting[cell.label].grows
                and math.isnan(carried[cell.label])
                and _growth_share(cell, drifting[cell.label]) >= _BEYOND
            }
            said.append(": ".join(filter(None, (where, _drifting(drifting, beyond, carried, len(group))))))
        open_ = {label: one.because for label, one in told.items() if one.stationary is None}
        for because in dict.fromkeys(open_.values()):
            labels = [label for label, one in open_.items() if one == because]
            who = "every policy" if len(labels) == len(group) > 1 else ", ".join(labels)
            unsaid.setdefault(because, {}).setdefault(who, []).append(group[0].point)
    for because, policies in unsaid.items():
        everywhere = list(policies.values()) == [[group[0].point for group in groups]]
        at = "; ".join(filter(None, (" at ".join(filter(None, (who, place(at)))) for who, at in policies.items())))
        said.append(
            "whether there is a level cannot be said" + (f": {because}" if everywhere else f" ({because}): {at}")
        )
    return said


def _growth_share(cell: Measured, told: Stationarity) -> float:
    """Growth as a part of what arrives; infinite where that is not known."""
    if told.unit == "sessions":
        spans_s = cell.metric("window_until_s") - cell.metric("window_start_s")
        arriving = float(np.mean(cell.metric("sessions") / spans_s))
    else:
        arriving = float(np.mean(cell.metric("arrived_rps")))
    return told.growth.mean / arriving if arriving > 0 else math.inf


def _carried_beyond(cell: Measured, results: Sequence[Measured]) -> float:
    """The largest load above a cell's own that its policy carries (a level, or no growth is shown); NaN if none."""
    axis = next((name for name in LOADS if name in cell.point), None)
    if axis is None:
        return math.nan
    rest = {**cell.point, axis: None}
    own = [other for other in results if other.label == cell.label and {**other.point, axis: None} == rest]
    above = [float(other.point[axis]) for other in own if float(other.point[axis]) > float(cell.point[axis])]
    told = {float(other.point[axis]): steadiness(other) for other in own}
    steady = {load for load, one in told.items() if one.stationary or one.growth.low <= 0}
    return max(steady.intersection(above), default=math.nan)


def _drifting(
    drifting: Mapping[str, Stationarity],
    growing: Mapping[str, Stationarity],
    carried: Mapping[str, float],
    policies: int,
) -> str:
    if len(growing) == policies > 1:
        least, most = (f(growing, key=lambda label: growing[label].growth.mean) for f in (min, max))
        unit = growing[least].unit
        return (
            f"beyond the capacity of every policy, no level to compare: the number of {unit} in the system grows by "
            f"{_per_second(growing[least])} ({least}) to {_per_second(growing[most])} per second ({most})"
        )
    parts = []
    if growing:
        rates = ", ".join(f"{label} {_per_second(one)}" for label, one in growing.items())
        unit = next(iter(growing.values())).unit
        parts.append(f"beyond capacity, the number of {unit} in the system grows per second by: {rates}")
    others = [
        f"{label} ({one.because}{_though(carried[label])})" for label, one in drifting.items() if label not in growing
    ]
    if others:
        parts.append(f"no level: {', '.join(others)}")
    return "; ".join(parts)


def _though(carried: float) -> str:
    """One cell of twenty drifts by chance; capacity it is not, where more load has a level."""
    return (
        "" if math.isnan(carried) else f", though {level(carried)} is carried: more seeds or a longer window would tell"
    )


def _per_second(told: Stationarity) -> str:
    return number(told.growth.mean) if math.isfinite(told.growth.mean) else "-"


def knee_sentences(found: Sequence[PolicyKnee], axis: str) -> list[str]:
    """One line per value of whatever else was swept, policies from the highest knee on."""
    lines: dict[str, list[PolicyKnee]] = {}
    for one in found:
        lines.setdefault(place([one.point]), []).append(one)
    unit = title(axis).partition(" (")[2].rstrip(")")
    about = ", ".join(filter(None, (f"{TARGET:.0%} in time, with a level", unit)))
    said = []
    for where, own in lines.items():
        told = ", ".join(f"{one.policy} {_where(one)}" for one in sorted(own, key=PolicyKnee.rank, reverse=True))
        said.append(": ".join(filter(None, (where, f"knee ({about}): {told}"))))
    return said


def _where(one: PolicyKnee) -> str:
    if math.isnan(one.knee):
        return f"below {level(one.beyond)}"
    if math.isnan(one.beyond):
        return f"above {level(one.knee)}"
    unsure = " (whether there is a level cannot be said)" if "cannot be said" in one.said else ""
    mean, low, high = one.crossing
    if math.isfinite(low):
        return f"{mean:.3g} [{low:.3g}, {high:.3g}]{unsure}"
    return f"{level(one.knee)} to {level(one.beyond)}{unsure}"
