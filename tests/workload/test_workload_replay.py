"""Traces replayed to their end on a simulated pool: every request accounted for, turns in closed loop."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gsim.cluster import InstanceSpec, RunResult, Scenario, simulate
from gsim.core import Session, Streams, build
from gsim.engine import EngineConfig
from gsim.latency import constant_profile
from gsim.workload.formats.detect import detect
from gsim.workload.generate.agent import SubAgents

SLO = build("slo", "fixed", seconds=30.0)


def replay(sessions: list[Session], instances: int = 2) -> RunResult:
    profile = constant_profile(0.005)
    scenario = Scenario(
        instances=tuple(InstanceSpec(f"server-{i}", profile, EngineConfig()) for i in range(instances)),
        router=build("router", "least_request"),
        predictor=build("predictor", "constant"),
        estimator=build("estimator", "ema"),
    )
    return simulate(scenario, iter(sessions), 0)


def assert_accounted_for(sessions: list[Session], result: RunResult) -> None:
    """Every request ended once, finished with all its tokens, and no turn came before what it waited for."""
    rows = result.requests
    jobs = [job for session in sessions for job in session.jobs]
    assert rows["request_id"].tolist() == [job.request.request_id for job in jobs]
    assert rows["generated_tokens"].tolist() == [job.output_tokens for job in jobs]
    finished, arrived = rows["finished_s"], rows["arrival_s"]
    assert np.isfinite(finished).all()
    for job in jobs:
        for dependency in job.after:
            if dependency.on_completion:
                due_s = finished[dependency.request_id] + dependency.delay_s
                assert arrived[job.request.request_id] >= due_s - 1e-6


@pytest.mark.parametrize(
    ("file", "fields", "requests"),
    [
        ("azure2023_code.csv.gz", {}, 8819),
        ("azure2023_conv.csv.gz", {"rate_per_s": 20.0}, 19_366),
        ("mooncake_conversation_2000.jsonl.gz", {"block_size": 512}, 2000),
        ("lmcache_miniswe.csv.gz", {}, 402),
        # As far as a context of 64k tokens goes; whole, these 60 sessions take longer than a test may.
        ("claude_code_weka_60sessions.csv.gz", {"max_context_tokens": 65_536}, 923),
        ("prompt_lengths.jsonl.gz", {"rate_per_s": 20.0}, 7799),
        ("servegen_deepseek_r1_quantiles.csv.gz", {"requests": 1000}, 1000),
    ],
)
def test_real_files_are_replayed_to_their_end(
    shared: Path, file: str, fields: dict[str, object], requests: int
) -> None:
    path = str(shared / "data/traces" / file)
    sessions = list(build("trace", detect(path), path=path, **fields).sessions(Streams(0), SLO))
    assert sum(len(session.jobs) for session in sessions) == requests
    assert_accounted_for(sessions, replay(sessions))


def test_generated_agents_with_sub_agents_are_replayed_to_their_end() -> None:
    trace = build("trace", "mix", requests=1500, sub_agents=SubAgents(probability=0.3))
    sessions = list(trace.sessions(Streams(0), SLO))
    result = replay(sessions)
    assert_accounted_for(sessions, result)
    assert Counter(result.sessions["session_id"].tolist()) == Counter(
        session.session_id for session in sessions if len(session.jobs) > 1
    )


def test_an_idle_pool_keeps_every_session_objective() -> None:
    """A session's objective is its longest chain of request objectives and gaps: met if every request meets its own."""
    trace = build("trace", "mix", requests=400, rate_per_s=0.5)
    sessions = list(trace.sessions(Streams(0), SLO))
    result = replay(sessions)
    rows = result.sessions
    assert rows["missed"].sum() == 0
    assert (rows["finished_s"] - rows["arrival_s"] <= rows["slo_s"]).all()
