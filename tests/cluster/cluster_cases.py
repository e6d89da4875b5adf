"""Small pools and workloads, shared by the cluster's tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf
from typing import Any

import numpy as np

from gsim.cluster import Horizon, InstanceSpec, RunResult, Scenario, TelemetryConfig, simulate
from gsim.core import Job, Population, Request, Session, build
from gsim.engine import EngineConfig
from gsim.latency import constant_profile, load_profile

PAPER_POOL = ("v100", "a40", "a800", "h800")


def paper_pool(**engine: Any) -> tuple[InstanceSpec, ...]:
    """One V100, A40, A800 and H800 of Llama-3.1-8B."""
    return tuple(InstanceSpec(gpu, load_profile(f"{gpu}-llama-3.1-8b"), EngineConfig(**engine)) for gpu in PAPER_POOL)


def constant_pool(
    n: int, iteration_s: float, *, max_num_seqs: int = 256, engine: str = "decode_clock"
) -> tuple[InstanceSpec, ...]:
    """``n`` instances whose iterations all take the same time."""
    profile = constant_profile(iteration_s, max_num_seqs=max_num_seqs)
    return tuple(InstanceSpec(f"server-{i}", profile, EngineConfig(name=engine)) for i in range(n))


def single(
    arrivals_s: Iterable[float], prompts: Iterable[int], outputs: Iterable[int], slo_s: float = 6.0
) -> Iterator[Session]:
    """Independent requests."""
    for i, (at, prompt, output) in enumerate(zip(arrivals_s, prompts, outputs, strict=True)):
        request = Request(i, float(at), int(prompt), 1 << 16, slo_s, session_id=i)
        yield Session(i, float(at), (Job(request, int(output)),))


def poisson(
    seed: int, n: int, rate_per_s: float, prompt: int = 100, outputs: tuple[int, int] = (100, 500)
) -> Iterator[Session]:
    """The paper's shape: Poisson arrivals, one prompt length, uniform output lengths."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / rate_per_s, n))
    return single(arrivals, [prompt] * n, rng.integers(outputs[0], outputs[1] + 1, n))


def simulate_on(
    instances: tuple[InstanceSpec, ...],
    sessions: Iterator[Session] | Population,
    router: str | object = "round_robin",
    seed: int = 0,
    predictor: str = "oracle",
    telemetry: TelemetryConfig | None = None,
    horizon: Horizon | None = None,
    limit_s: float = inf,
    **scenario: Any,
) -> RunResult:
    """Simulate sessions on a pool under a router, given by name or as an object."""
    built = Scenario(
        instances=instances,
        router=build("router", router) if isinstance(router, str) else router,  # type: ignore[arg-type]
        predictor=build("predictor", predictor),
        estimator=build("estimator", "ema"),
        telemetry=telemetry or TelemetryConfig(),
        **scenario,
    )
    return simulate(built, sessions, seed, horizon, limit_s)


def columns_equal(left: dict[str, Any], right: dict[str, Any]) -> bool:
    """All columns equal, bit by bit."""
    return left.keys() == right.keys() and all(left[name].tobytes() == right[name].tobytes() for name in left)
