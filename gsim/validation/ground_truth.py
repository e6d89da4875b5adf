"""Against a real engine: replay requests that a real vLLM served, and compare its timestamps with ours.

A ground-truth folder holds ``meta.json`` (engine limits) and ``requests.csv`` (request_id, input_tokens, output_tokens,
arrival_s, queued_s, scheduled_s, first_token_s, last_token_s), as LLMServingSim publishes them. Latencies are counted
from ``queued_s``, the moment the engine's loop takes a request in, as its published summary counts them; percentiles
are interpolated linearly. Both follow from the file: they reproduce that summary to the last digit.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gsim.core.errors import InputError
from gsim.core.files import UNREADABLE
from gsim.core.json_text import parsed_json
from gsim.core.request import Content, Job, Request
from gsim.engine import EngineConfig, EngineLimits
from gsim.latency import OperatorModel, Profile
from gsim.validation.contents import read_contents
from gsim.validation.pipelined import Loop, Replay, replay
from gsim.validation.run_meta import engine_of_run
from gsim.validation.vllm_bench import read_bench

Floats = NDArray[np.float64]

COLUMNS = ("input_tokens", "output_tokens", "arrival_s", "queued_s", "scheduled_s", "first_token_s", "last_token_s")
PERCENTILES = (50, 90, 95, 99)
#: A loop that came back so much later than a warm one would have was still starting up (JIT, lazy loading).
_COLD_S = 0.05


@dataclass(frozen=True)
class GroundTruth:
    """What a real engine did."""

    folder: Path
    requests: pd.DataFrame
    """``requests.csv``, in order of arrival."""
    engine: EngineConfig
    """The limits that ``meta.json`` states."""
    from_client: bool = False
    """Latencies count from sending (a benchmark client's clock), not from when the engine's loop took a request in."""

    capture_sizes: tuple[int, ...] | None = None
    """Token counts for which the engine had captured CUDA graphs; None: not stated."""
    contents: tuple[Content, ...] = ()
    """What the prompts are made of, where that is known; empty: no prompt shares with another."""
    assumed: tuple[str, ...] = ()
    """What ``meta.json`` does not say, and what stands in for it."""

    def jobs(self) -> list[Job]:
        """The same requests for the simulator."""
        rows = zip(self.requests.arrival_s, self.requests.input_tokens, self.requests.output_tokens, strict=True)
        contents = self.contents or ((),) * len(self.requests)
        return [
            Job(Request(i, float(arrival_s), int(prompt), int(output), float("inf"), content=contents[i]), int(output))
            for i, (arrival_s, prompt, output) in enumerate(rows)
        ]


def read_ground_truth(folder: str | Path, workload: str | Path | None = None) -> GroundTruth:
    """Read and check a folder; raises ``InputError`` that names the file, the row or field, and the value.

    ``workload`` is the JSON-lines file of the run with the prompts' token ids, if it is at hand. A JSON file is read as
    a result of ``vllm bench serve``; it states no engine limits, so the profile's apply.
    """
    folder = Path(folder)
    if folder.suffix == ".json":
        return GroundTruth(folder, read_bench(folder), EngineConfig(), from_client=True)
    meta = _meta(folder / "meta.json")
    requests = _requests(folder / "requests.csv")
    config, captured, assumed = engine_of_run(folder / "meta.json", meta)
    tokens = [int(tokens) for tokens in requests.input_tokens]
    contents = tuple(read_contents(Path(workload), tokens)) if workload else ()
    return GroundTruth(folder, requests, config, capture_sizes=captured, contents=contents, assumed=assumed)


def _meta(path: Path) -> dict[str, Any]:
    try:
        meta = parsed_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if not isinstance(meta, dict):
        raise InputError(f"{path}: must hold an object, not {type(meta).__name__}")
    return meta


def _requests(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path)
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing or frame.empty:
        what = f"column {missing[0]} is missing" if missing else "holds no request"
        raise InputError(f"{path}: {what}; it needs: {', '.join(COLUMNS)}")
    for column in COLUMNS:
        values = pd.to_numeric(frame[column], errors="coerce")
        bad = ~np.isfinite(values) | (values < (1 if column.endswith("_tokens") else 0))
        if bad.any():
            row = int(np.argmax(bad))
            low = "at least 1" if column.endswith("_tokens") else "0 or more"
            raise InputError(f"{path}, row {row + 2}: {column} must be {low}, not {frame[column].iloc[row]}")
    times = frame[["arrival_s", "queued_s", "scheduled_s", "first_token_s", "last_token_s"]].to_numpy()
    # Clocks of the client and the engine's loop agree to a few milliseconds.
    backwards = (np.diff(times, axis=1) < -0.01).any(axis=1)
    if backwards.any():
        raise InputError(f"{path}, row {int(np.argmax(backwards)) + 2}: its timestamps are not in order")
    if (np.diff(frame.arrival_s) < 0).any():
        raise InputError(f"{path}, row {int(np.argmax(np.diff(frame.arrival_s) < 0)) + 3}: arrivals must be in order")
    return frame


def profile_of_run(truth: GroundTruth, profile: Profile) -> Profile:
    """The profile with the CUDA graphs that the run's engine had captured, where it is made of operators and they are
    stated: vLLM captures fewer for a smaller batch limit."""
    latency = profile.latency
    if truth.capture_sizes is None or not isinstance(latency, OperatorModel):
        return profile
    return dataclasses.replace(profile, latency=dataclasses.replace(latency, capture_sizes=truth.capture_sizes))


def replay_truth(truth: GroundTruth, profile: Profile, until_s: float = math.inf) -> Replay:
    """Replay the requests on one engine with the run's own limits, as far as ``until_s``.

    If the real loop took its second request in later than a warm one would have, the server was cold: then its first
    iteration is held for as long as the file says.
    """
    return start_replay(truth, profile).run(until_s)


def start_replay(truth: GroundTruth, profile: Profile) -> Loop:
    """The replay before its first iteration."""
    jobs = truth.jobs()
    limits = truth.engine.resolve(profile)
    return Loop(jobs, profile.latency, limits, _cold_start_s(truth, jobs, profile, limits))


def _cold_start_s(truth: GroundTruth, jobs: list[Job], profile: Profile, limits: EngineLimits) -> float:
    if truth.from_client or len(jobs) < 2:
        return 0.0
    warm = replay(jobs[:2], profile.latency, limits)
    second = truth.requests.iloc[1]
    if second.queued_s - warm.queued_s[1] < _COLD_S:
        return 0.0
    return float(second.queued_s - truth.requests.scheduled_s.iloc[0])


def latencies(
    queued_s: Floats, first_token_s: Floats, last_token_s: Floats, output_tokens: Floats
) -> dict[str, Floats]:
    """TTFT, TPOT and E2E in seconds; a request of a single token has no TPOT."""
    decoded = output_tokens > 1
    return {
        "TTFT": first_token_s - queued_s,
        "TPOT": (last_token_s - first_token_s)[decoded] / (output_tokens[decoded] - 1),
        "E2E": last_token_s - queued_s,
    }


def compare(truth: GroundTruth, simulated: Replay, rows: NDArray[np.bool_] | None = None) -> pd.DataFrame:
    """Columns metric, statistic, real, simulated (milliseconds), diff_percent; over ``rows`` where given."""
    requests = truth.requests
    keep = np.ones(len(requests), dtype=np.bool_) if rows is None else rows
    real, ours = _real(truth, keep), _ours(truth, simulated, keep)
    table = []
    for metric, values in real.items():
        # Where every request has one token, none has a TPOT.
        for statistic in ("mean", *PERCENTILES) if len(values) else ():
            pair = [_statistic(statistic, x) * 1e3 for x in (values, ours[metric])]
            name = "mean" if statistic == "mean" else f"p{statistic}"
            table.append((metric, name, pair[0], pair[1], 100.0 * (pair[1] / pair[0] - 1.0)))
    return pd.DataFrame(table, columns=["metric", "statistic", "real", "simulated", "diff_percent"])


def _real(truth: GroundTruth, keep: NDArray[np.bool_]) -> dict[str, Floats]:
    names = ("queued_s", "first_token_s", "last_token_s", "output_tokens")
    queued, first, last, output = (truth.requests[name].to_numpy(dtype=np.float64)[keep] for name in names)
    return latencies(queued, first, last, output)


def _ours(truth: GroundTruth, simulated: Replay, keep: NDArray[np.bool_]) -> dict[str, Floats]:
    output = truth.requests.output_tokens.to_numpy(dtype=np.float64)
    start = truth.requests.arrival_s.to_numpy(dtype=np.float64) if truth.from_client else simulated.queued_s
    return latencies(start[keep], simulated.first_token_s[keep], simulated.last_token_s[keep], output[keep])


def _statistic(statistic: str | int, values: Floats) -> float:
    return float(values.mean()) if isinstance(statistic, str) else float(np.percentile(values, statistic))


def figure(truth: GroundTruth, simulated: Replay) -> Figure:
    """Distributions of TTFT, TPOT and E2E, real and simulated, and each request's completion against the real one."""
    requests = truth.requests
    everything = np.ones(len(requests), dtype=np.bool_)
    real, ours = _real(truth, everything), _ours(truth, simulated, everything)
    drawing = Figure(figsize=(10.0, 2.8), layout="constrained")
    axes = drawing.subplots(1, 4)
    for axis, (metric, values) in zip(axes, real.items()):
        scale, unit = (1e3, "ms") if metric == "TPOT" else (1.0, "s")
        if not len(values):
            axis.text(0.5, 0.5, "one token each", ha="center", transform=axis.transAxes, color="0.4")
        for data, label in ((values, "vLLM"), (ours[metric], "gsim")):
            axis.step(np.sort(data) * scale, np.linspace(0, 1, len(data)), where="post", label=label, linewidth=1.2)
        axis.set_xlabel(f"{metric} ({unit})")
        axis.set_ylim(0, 1)
    axes[0].set_ylabel("Share of requests")
    axes[0].legend(frameon=False)
    last = requests.last_token_s.to_numpy(dtype=np.float64)
    axes[3].axhline(0, color="0.7", linewidth=0.8)
    axes[3].plot(last, simulated.last_token_s - last, ".", markersize=3)
    axes[3].set_xlabel("Completed on vLLM (s)")
    axes[3].set_ylabel("gsim later by (s)")
    return drawing
