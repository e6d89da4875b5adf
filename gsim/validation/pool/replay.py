"""A recorded pool's requests on a simulated one: where they were sent, or where a router of ours sends them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsim.cluster import InstanceSpec, Scenario, TelemetryConfig, simulate
from gsim.core import ClusterView, Content, Decision, Job, Request, Router, Session, Status
from gsim.core.errors import SimulationError
from gsim.engine import EngineConfig
from gsim.estimation.nominal import Nominal
from gsim.latency import Profile
from gsim.prediction.constant import Constant
from gsim.validation.pool.truth import Floats, PoolRun

#: AIBrix's index keeps hashes of 128 characters, about 32 tokens; it holds far more than any run here sends.
_INDEX_BLOCK_TOKENS, _ENDLESS = 32, 100.0


@dataclass(frozen=True)
class PoolModel:
    """What stands for the real pool's instances."""

    profile: Profile
    engine: EngineConfig = field(default_factory=EngineConfig)
    api_s: float = 0.0
    """What gateway, HTTP and tokenizer add to a request before the engine has it."""
    index_capacity: float = _ENDLESS
    """Size of the gateway's prefix index per instance, as a multiple of the instance's KV capacity."""

    def instances(self, count: int) -> tuple[InstanceSpec, ...]:
        """Equal ones, named by their number in the recording."""
        return tuple(InstanceSpec(str(i), self.profile, self.engine, self.api_s) for i in range(count))


@dataclass(frozen=True)
class AsPlaced:
    """Every request to where it was sent in the recording."""

    instance_of: Mapping[int, int]

    def route(self, request: Request, view: ClusterView) -> Decision:
        """As recorded."""
        return self.instance_of[request.request_id]


@dataclass(frozen=True)
class PoolReplay:
    """What the simulated pool did."""

    rows: pd.DataFrame
    """In order of arrival: request_id, instance, input_tokens, ttft_ms, tpot_ms, e2e_ms, cached_tokens."""
    states: pd.DataFrame
    """Every second: time_s, instance, running, waiting, kv_usage."""
    preemptions: int


def replay_pool(
    run: PoolRun, arrivals_s: Floats, contents: Mapping[int, Content], router: Router, model: PoolModel, seed: int
) -> PoolReplay:
    """Send a run's requests at ``arrivals_s`` through ``router``."""
    scenario = Scenario(
        instances=model.instances(run.instances),
        router=router,
        predictor=Constant(),
        estimator=Nominal(),
        telemetry=TelemetryConfig(
            prefix_block_tokens=_INDEX_BLOCK_TOKENS, prefix_capacity=model.index_capacity, sample_interval_s=1.0
        ),
    )
    result = simulate(scenario, _sessions(run.rows, arrivals_s, contents), seed)
    columns = result.requests
    finished = columns["status"] == Status.FINISHED
    if not finished.all():
        raise SimulationError(
            f"set {run.set_name}: {int((~finished).sum())} requests did not finish on '{model.profile.name}'"
        )
    first, last = columns["first_token_s"], columns["finished_s"]
    rows = pd.DataFrame(
        {
            "request_id": columns["request_id"],
            "instance": columns["instance"],
            "arrival_s": columns["arrival_s"],
            "input_tokens": columns["prompt_tokens"],
            "ttft_ms": 1e3 * (first - columns["arrival_s"]),
            "tpot_ms": 1e3 * (last - first) / np.maximum(columns["generated_tokens"] - 1, 1),
            "e2e_ms": 1e3 * (last - columns["arrival_s"]),
            "cached_tokens": columns["cached_tokens"],
        }
    )
    states = pd.DataFrame(
        {name: result.samples[name] for name in ("time_s", "instance", "running", "waiting", "kv_usage")}
    )
    return PoolReplay(rows, states, int(columns["preemptions"].sum()))


def _sessions(rows: pd.DataFrame, arrivals_s: Floats, contents: Mapping[int, Content]) -> Iterator[Session]:
    columns = (rows["request_id"], arrivals_s, rows["input_tokens"], rows["output_tokens"])
    for request_id, at_s, prompt, output in zip(*columns, strict=True):
        key, tokens = int(request_id), int(output)
        content = contents.get(key, ())
        request = Request(key, float(at_s), int(prompt), tokens, math.inf, session_id=key, content=content)
        yield Session(key, float(at_s), (Job(request, tokens),))


def placements(run: PoolRun) -> AsPlaced:
    """The recording's own decisions."""
    ids: NDArray[np.int64] = run.rows["request_id"].to_numpy(dtype=np.int64)
    return AsPlaced(dict(zip(ids.tolist(), run.placed.tolist(), strict=True)))
