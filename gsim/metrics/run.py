"""One run's records to one row of numbers. Keys that ``vllm bench serve`` has too are named as there.

What is counted is a matter of the window (``gsim.metrics.window``). The tail is not cut: every counted request runs to
its end, long after the last arrival if need be, so an overloaded pool cannot hide its misses. Where a run had to be
stopped before all of them had ended, those that had not are misses, and ``cut`` says how many they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from gsim.core import Status
from gsim.metrics.costs import Paid, cost_usd, energy_j
from gsim.metrics.objective import Objective, truncated
from gsim.metrics.window import Columns, Window, counted_at_s, session_began_s

#: Latencies by the names of ``vllm bench serve``: time to first token, time per output token after the first, and
#: end-to-end latency; all of finished requests, in milliseconds.
LATENCIES = ("ttft", "tpot", "e2el")
PERCENTILES = (50, 90, 95, 99)


def summarise(
    requests: Columns,
    sessions: Columns | None = None,
    window: Window | None = None,
    objective: Objective | None = None,
) -> dict[str, float]:
    """Counts, goodput and latencies of one run.

    ``requests`` are the columns of a run's records (times in seconds). Without a counted request every rate and
    latency is NaN. ``goodput_rps`` is the good requests per second of the *window* (counted by arrival: to the last
    arrival, where that is earlier than its end). ``offered_rps`` are the counted requests per second of it, good or
    not: by arrival what came, by session what the sessions that began would send if nothing were slow; a closed
    population offers no rate (NaN). ``arrived_rps`` is what arrived inside the window, whatever is counted.
    ``truncated`` are finished requests whose answer the engine's limits cut: they are not good, unless the objective
    says so. ``request_goodput`` divides by the time until the last completion, as ``vllm bench serve`` does.
    """
    window = window or Window()
    counted = window.requests(requests)
    rows = {name: values[counted] for name, values in requests.items()}
    n = int(counted.sum())
    objective = objective or Objective()
    good = int(objective.met(rows).sum())
    finished = rows["status"] == Status.FINISHED
    start_s, until_s = window.span_s(counted_at_s(requests, window.rule))
    length_s = until_s - start_s
    arrived = Window(start_s, until_s).requests(requests) if length_s > 0 and start_s >= 0 else counted
    served_s = _span(rows["finished_s"][finished], start_s)
    if length_s == 0:
        # All came at one instant: per second of the time that it took to answer them.
        length_s = served_s
    generated = rows["generated_tokens"]
    # Over all instances that a request was on: one that moved or was retried has its prompt looked up there again.
    cached, computed = int(rows["cached_tokens"].sum()), int(rows["computed_tokens"].sum())
    summary: dict[str, float] = {
        "requests": n,
        "completed": int(finished.sum()),
        "rejected": int((rows["status"] == Status.REJECTED).sum()),
        "failed": int((rows["status"] == Status.FAILED).sum()),
        "cut": int((rows["status"] == Status.CUT).sum()),
        "truncated": int(truncated(rows).sum()),
        "preempted": int((rows["preemptions"] > 0).sum()),
        "preemptions": int(rows["preemptions"].sum()),
        "migrated": int((rows["migrations"] > 0).sum()),
        "migrations": int(rows["migrations"].sum()),
        "good": good,
        "offered_rps": math.nan if window.rule == "by_completion" else _ratio(n, length_s),
        "arrived_rps": _ratio(int(arrived.sum()), length_s),
        "goodput_rps": _ratio(good, length_s),
        "attainment": _ratio(good, n),
        "duration": served_s,
        "request_throughput": _ratio(int(finished.sum()), served_s),
        "request_goodput": _ratio(good, served_s),
        "output_throughput": _ratio(int(generated[finished].sum()), served_s),
        "cached_fraction": _ratio(cached, cached + computed),
    }
    summary |= {f"{name}_attainment": _ratio(int(kept.sum()), n) for name, kept in objective.parts(rows).items()}
    summary.update(_latencies({name: values[finished] for name, values in rows.items()}))
    if sessions and (len(sessions["arrival_s"]) or window.rule != "by_arrival"):
        summary.update(_sessions(_all_sessions(sessions, requests, objective), window))
    return summary


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


def _all_sessions(sessions: Columns, requests: Columns, objective: Objective) -> Columns:
    """The sessions of several requests, and those of one, which leave no row but their request's.

    One that was under way when the run began has no beginning (NaN).
    """
    began_s = session_began_s(requests)
    under_way = np.isin(sessions["session_id"], requests["session_id"][np.isnan(began_s)])
    sessions = {**sessions, "arrival_s": np.where(under_way, math.nan, sessions["arrival_s"])}
    if not objective.truncated:
        # In time, but not whole: the session lacks an answer.
        short = truncated(requests) & Objective(truncated=True).met(requests)
        ids, counts = np.unique(requests["session_id"][short], return_counts=True)
        at = np.isin(ids, sessions["session_id"])
        missed = dict(zip(ids[at].tolist(), counts[at].tolist()))
        more = np.array([missed.get(session, 0) for session in sessions["session_id"].tolist()], dtype=np.int64)
        sessions = {**sessions, "missed": sessions["missed"] + more} if missed else sessions
    single = ~np.isin(requests["session_id"], sessions["session_id"])
    rows = {name: values[single] for name, values in requests.items()}
    added: dict[str, np.ndarray[Any, Any]] = {
        "arrival_s": began_s[single],
        "finished_s": np.where(rows["status"] == Status.CUT, math.nan, rows["ended_s"]),
        "slo_s": np.full(int(single.sum()), math.inf),
        "missed": (~Objective(truncated=objective.truncated).met(rows)).astype(np.int64),
        "jobs": np.ones(int(single.sum()), dtype=np.int64),
    }
    return {name: np.concatenate([sessions[name], values]) for name, values in added.items()}


def _sessions(sessions: Columns, window: Window) -> dict[str, float]:
    """Session-level goodput: a session is good if all its requests and its own makespan are in time."""
    counted = window.sessions(sessions)
    n = int(counted.sum())
    makespan = sessions["finished_s"][counted] - sessions["arrival_s"][counted]
    good = int(((sessions["missed"][counted] == 0) & (makespan <= sessions["slo_s"][counted])).sum())
    start_s, until_s = window.span_s(sessions["finished_s" if window.rule == "by_completion" else "arrival_s"])
    ended = makespan[np.isfinite(makespan)]
    return {
        "sessions": n,
        "good_sessions": good,
        "session_attainment": _ratio(good, n),
        "session_goodput_rps": _ratio(good, until_s - start_s),
        "cut_sessions": n - len(ended),
        "mean_makespan_ms": float(ended.mean() * 1e3) if len(ended) else math.nan,
        "p95_makespan_ms": float(np.percentile(ended, 95) * 1e3) if len(ended) else math.nan,
        "stay_s": stay_s(makespan, sessions["jobs"][counted]),
    }


def stay_s(makespan_s: np.ndarray[Any, Any], requests: np.ndarray[Any, Any], share: float = 0.95) -> float:
    """How long sessions last: this share of the requests belongs to sessions that take no longer (NaN: not known).

    By requests, not by sessions: the long sessions are few, and most of the load. One that has not ended (NaN) lasts
    longer than any other.
    """
    order = np.argsort(makespan_s)  # NaN comes last
    through = np.cumsum(requests[order])
    if not len(through):
        return math.nan
    return float(makespan_s[order][np.searchsorted(through, share * through[-1])])


class Usage(Paid, Protocol):
    """What an instance reports of a run (see ``gsim.cluster.InstanceSummary``)."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def gpu(self) -> str: ...  # noqa: D102
    @property
    def requests(self) -> int: ...  # noqa: D102
    @property
    def preemptions(self) -> int: ...  # noqa: D102


def instance_usage(instances: Sequence[Usage], duration_s: float) -> list[dict[str, Any]]:
    """Per instance: requests, share of all, generated tokens, utilisation (busy over the whole run), and costs."""
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
            "paid_s": i.paid_s,
            "starts": i.starts,
            "cost_usd": cost_usd(i),
            "energy_j": energy_j(i),
        }
        for i in instances
    ]


def _span(times: np.ndarray[Any, Any], start_s: float) -> float:
    return float(times.max() - start_s) if len(times) else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
