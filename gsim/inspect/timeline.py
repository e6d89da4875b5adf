"""``timeline=true``: a run as a Chrome trace (opens in Perfetto), and as a figure.

A process per instance with counters (batch, waiting, KV usage) and, in lanes, a slice per request and phase; arrows
from where a migrated request left to where it came.
"""

from __future__ import annotations

import heapq
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsim.cluster import RunResult
from gsim.inspect.story import Stay, Story, followed, stories
from gsim.run.settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GATEWAY = 0


def trace_events(result: RunResult) -> list[dict[str, Any]]:
    """The events of the Chrome trace format (times in microseconds)."""
    names = [instance.name for instance in result.instances]
    events: list[dict[str, Any]] = [_named(_GATEWAY, "gateway (held requests)")]
    events += [_named(i + 1, f"{i}: {name}") for i, name in enumerate(names)]
    events += _counters(result)
    lanes = _Lanes()
    told = stories(result)
    slices = sorted(
        ((stay.begin_s, request, k, stay) for request, story in told.items() for k, stay in enumerate(story.stays)),
        key=lambda item: item[:3],
    )
    left: dict[int, int] = {}
    for begin_s, request, k, stay in slices:
        lane = lanes.take(stay.instance + 1, begin_s, stay.end_s)
        events += _phases(told[request], stay, lane)
        if k > 0:
            events += _arrow((request, k), (told[request].stays[k - 1], left[request]), (stay, lane))
        left[request] = lane
    events += _held(told)
    return events


def leave_timeline(settings: Settings, seed: int, into: Path) -> None:
    """The run of this seed again, sampled and logged: ``timeline.json`` for Perfetto, and a figure."""
    from gsim.study.figure import save

    result = sampled(settings, seed)
    write_timeline(result, into / "timeline.json")
    save(timeline_figure(result), into / "timeline")


def sampled(settings: Settings, seed: int) -> RunResult:
    """The run of this seed, logged, its instances sampled as often as is configured, or ten times a second."""
    asked = settings.choices["telemetry"].fields.get("sample_interval_s")
    return followed(settings, seed, sample_interval_s=asked or 0.1)


def write_timeline(result: RunResult, path: Path) -> None:
    """Write the Chrome trace as JSON."""
    path.write_text(json.dumps({"traceEvents": trace_events(result), "displayTimeUnit": "ms"}), encoding="utf-8")


class _Lanes:
    """Slices of one process must not overlap inside a lane: the lowest lane that is free."""

    def __init__(self) -> None:
        self._busy: dict[int, list[tuple[float, int]]] = {}
        self._free: dict[int, list[int]] = {}
        self._count: dict[int, int] = {}

    def take(self, process: int, begin_s: float, end_s: float) -> int:
        busy = self._busy.setdefault(process, [])
        free = self._free.setdefault(process, [])
        while busy and busy[0][0] <= begin_s:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane = self._count[process] = self._count.get(process, 0) + 1
        heapq.heappush(busy, (end_s, lane))
        return lane


def _named(process: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": "process_name", "pid": process, "args": {"name": name}}


def _counters(result: RunResult) -> list[dict[str, Any]]:
    samples = result.samples
    events = []
    for i in range(len(samples.get("time_s", ()))):
        head = {"ph": "C", "pid": int(samples["instance"][i]) + 1, "ts": float(samples["time_s"][i]) * 1e6}
        for name, column in (("batch", "running"), ("waiting", "waiting"), ("KV usage", "kv_usage")):
            events.append({**head, "name": name, "args": {name: float(samples[column][i])}})
    return events


def _phases(story: Story, stay: Stay, lane: int) -> list[dict[str, Any]]:
    record = story.record
    head = {"ph": "X", "pid": stay.instance + 1, "tid": lane, "cat": "request"}
    args = {
        "request": record["request_id"],
        "class": record["task"],
        "prompt_tokens": record["prompt_tokens"],
        "output_tokens": record["output_tokens"],
        "slo_s": record["slo_s"],
        "in_time": bool(record["finished_s"] - record["arrival_s"] <= record["slo_s"]),
    }
    first = stay.first_token_s
    split = first if not math.isnan(first) else stay.end_s
    whole = _slice(head, f"request {record['request_id']}", stay.begin_s, stay.end_s, args)
    phases = [_slice(head, "queue + prefill", stay.begin_s, split, {})]
    if split < stay.end_s:
        phases.append(_slice(head, "decode", split, stay.end_s, {}))
    return [whole, *phases]


def _slice(head: dict[str, Any], name: str, begin_s: float, end_s: float, args: dict[str, Any]) -> dict[str, Any]:
    return {**head, "name": name, "ts": begin_s * 1e6, "dur": max(0.0, end_s - begin_s) * 1e6, "args": args}


def _arrow(move: tuple[int, int], source: tuple[Stay, int], target: tuple[Stay, int]) -> list[dict[str, Any]]:
    """From the lane where the request was to the lane where it came (``move``: its id and the move's number)."""
    head = {"cat": "migration", "name": "migration", "id": f"{move[0]}.{move[1]}"}
    (left, old), (came, new) = source, target
    # A flow begins inside a slice: a microsecond before its end.
    begin = {**head, "ph": "s", "pid": left.instance + 1, "tid": old, "ts": left.end_s * 1e6 - 1.0}
    end = {**head, "ph": "f", "bp": "e", "pid": came.instance + 1, "tid": new, "ts": came.begin_s * 1e6}
    return [begin, end]


def _held(told: dict[int, Story]) -> list[dict[str, Any]]:
    lanes = _Lanes()
    events = []
    for story in sorted(told.values(), key=lambda s: s.record["arrival_s"]):
        record = story.record
        sent_s = story.stays[0].begin_s if story.stays else record["arrival_s"]
        if sent_s > record["arrival_s"]:
            lane = lanes.take(_GATEWAY, record["arrival_s"], sent_s)
            head = {"ph": "X", "pid": _GATEWAY, "tid": lane, "cat": "held"}
            events.append(_slice(head, f"request {record['request_id']} held", record["arrival_s"], sent_s, {}))
    return events


def timeline_figure(result: RunResult) -> Figure:
    """Batch, waiting requests and KV usage of every instance over time."""
    from gsim.study.figure import COLOURS, house_style, new_figure

    samples = result.samples
    with house_style():
        figure, axes = new_figure(3)
        panels = (("running", "Batch (requests)"), ("waiting", "Waiting (requests)"), ("kv_usage", "KV usage"))
        for axis, (column, label) in zip(axes, panels, strict=True):
            for i, instance in enumerate(result.instances):
                own = samples["instance"] == i
                axis.plot(
                    samples["time_s"][own],
                    samples[column][own],
                    color=COLOURS[i % len(COLOURS)],
                    linewidth=0.9,
                    label=instance.name,
                )
            axis.set_xlabel("Time (s)")
            axis.set_ylabel(label)
            axis.set_ylim(bottom=0)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure
