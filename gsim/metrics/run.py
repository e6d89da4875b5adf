"""One run's records to one row of numbers. Keys that ``vllm bench serve`` has too are named as there.

The cuts: requests that arrive before ``warmup_s`` or after ``until_s`` are simulated but not counted. ``until_s`` is
for closed-loop sessions: after the last session has come, load runs out, and the sooner the faster the pool is. The
tail is not cut: every counted request runs to its end, long after the last arrival if need be, so an overloaded pool
cannot hide its misses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from gsim.core import Status
from gsim.metrics.objective import Objective

Columns = Mapping[str, np.ndarray[Any, Any]]

#: Latencies by the names of ``vllm bench serve``: time to first token, time per output token after the first, and
#: end-to-end latency; all of finished requests, in milliseconds.
LATENCIES = ("ttft", "tpot", "e2el")
PERCENTILES = (50, 90, 95, 99)


def summarise(
    requests: Columns,
    sessions: Columns | None = None,
    warmup_s: float = 0.0,
    objective: Objective | None = None,
    until_s: float = math.inf,
) -> dict[str, float]:
    """Counts, goodput and latencies of one run.

    ``requests`` are the columns of a run's records (times in seconds). Without a counted request every rate and
    latency is NaN. ``goodput_rps`` is the good requests per second of *arrival time* (from the warm-up cut to
    ``until_s`` or, where that is earlier, the last arrival), so that it equals attainment times the rate at which
    requests really came; ``request_goodput`` divides by the time until the last completion, as ``vllm bench serve``
    does.
    """
    counted = in_window(requests, warmup_s, until_s)
    rows = {name: values[counted] for name, values in requests.items()}
    n = int(counted.sum())
    good = int((objective or Objective()).met(rows).sum())
    finished = rows["status"] == Status.FINISHED
    start = _start_s(rows["arrival_s"], warmup_s)
    end = min(until_s, _latest(requests["arrival_s"]))
    arrival_window = end - start
    window = _span(rows["finished_s"][finished], start)
    generated = rows["generated_tokens"]
    # A request that moved has its prompt prefilled once more: only of those that stayed is this a share of the prompt.
    stayed = rows["migrations"] == 0
    summary: dict[str, float] = {
        "requests": n,
        "completed": int(finished.sum()),
        "rejected": int((rows["status"] == Status.REJECTED).sum()),
        "failed": int((rows["status"] == Status.FAILED).sum()),
        "preempted": int((rows["preemptions"] > 0).sum()),
        "preemptions": int(rows["preemptions"].sum()),
        "migrated": int((rows["migrations"] > 0).sum()),
        "migrations": int(rows["migrations"].sum()),
        "good": good,
        "offered_rps": _ratio(n, arrival_window),
        "goodput_rps": _ratio(good, arrival_window),
        "attainment": _ratio(good, n),
        "duration": window,
        "request_throughput": _ratio(int(finished.sum()), window),
        "request_goodput": _ratio(good, window),
        "output_throughput": _ratio(int(generated[finished].sum()), window),
        "cached_fraction": _ratio(int(rows["cached_tokens"][stayed].sum()), int(rows["prompt_tokens"][stayed].sum())),
    }
    summary.update(_latencies({name: values[finished] for name, values in rows.items()}))
    if sessions and len(sessions["arrival_s"]):
        summary.update(_sessions(sessions, warmup_s, until_s))
    return summary


def in_window(rows: Columns, warmup_s: float, until_s: float) -> np.ndarray[Any, Any]:
    """Which requests (or sessions) are counted: those that arrive between the two cuts."""
    return np.asarray((rows["arrival_s"] >= warmup_s) & (rows["arrival_s"] <= until_s))


def latencies_s(finished: Columns) -> dict[str, np.ndarray[Any, Any]]:
    """TTFT, TPOT and E2E latency of finished requests, in seconds (TPOT: of those with two tokens or more)."""
    tokens = finished["generated_tokens"]
    several = tokens > 1
    decode = finished["finished_s"][several] - finished["first_token_s"][several]
    return {
        "ttft": finished["first_token_s"] - finished["arrival_s"],
        "tpot": decode / (tokens[several] - 1),
        "e2el": finished["finished_s"] - finished["arrival_s"],
    }


def _latencies(finished: Columns) -> dict[str, float]:
    row: dict[str, float] = {}
    for name, values in latencies_s(finished).items():
        milliseconds = values * 1e3
        row[f"mean_{name}_ms"] = float(milliseconds.mean()) if len(values) else math.nan
        quantiles = np.percentile(milliseconds, PERCENTILES) if len(values) else [math.nan] * len(PERCENTILES)
        for percentile, value in zip(PERCENTILES, quantiles, strict=True):
            row[f"p{percentile}_{name}_ms"] = float(value)
    return row


def _sessions(sessions: Columns, warmup_s: float, until_s: float) -> dict[str, float]:
    """Session-level goodput: a session is good if all its requests and its own makespan are in time."""
    counted = in_window(sessions, warmup_s, until_s)
    n = int(counted.sum())
    makespan = sessions["finished_s"][counted] - sessions["arrival_s"][counted]
    good = int(((sessions["missed"][counted] == 0) & (makespan <= sessions["slo_s"][counted])).sum())
    start = _start_s(sessions["arrival_s"][counted], warmup_s)
    span = min(until_s, _latest(sessions["arrival_s"])) - start
    return {
        "sessions": n,
        "good_sessions": good,
        "session_attainment": _ratio(good, n),
        "session_goodput_rps": _ratio(good, span),
        "mean_makespan_ms": float(np.nanmean(makespan) * 1e3) if np.isfinite(makespan).any() else math.nan,
    }


class Usage(Protocol):
    """What an instance reports of a run (see ``gsim.cluster.InstanceSummary``)."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def gpu(self) -> str: ...  # noqa: D102
    @property
    def requests(self) -> int: ...  # noqa: D102
    @property
    def generated_tokens(self) -> int: ...  # noqa: D102
    @property
    def busy_s(self) -> float: ...  # noqa: D102
    @property
    def preemptions(self) -> int: ...  # noqa: D102


def instance_usage(instances: Sequence[Usage], duration_s: float) -> list[dict[str, Any]]:
    """Per instance: requests, their share of all, generated tokens, and utilisation (busy over the whole run)."""
    total = sum(i.requests for i in instances)
    return [
        {
            "name": i.name,
            "gpu": i.gpu,
            "requests": i.requests,
            "share": _ratio(i.requests, total),
            "generated_tokens": i.generated_tokens,
            "utilisation": _ratio(i.busy_s, duration_s),
            "preemptions": i.preemptions,
        }
        for i in instances
    ]


def _start_s(arrivals: np.ndarray[Any, Any], warmup_s: float) -> float:
    return warmup_s if warmup_s > 0 or len(arrivals) == 0 else min(0.0, float(arrivals.min()))


def _latest(times: np.ndarray[Any, Any]) -> float:
    return float(times.max()) if len(times) else -math.inf


def _span(times: np.ndarray[Any, Any], start_s: float) -> float:
    return float(times.max() - start_s) if len(times) else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
