"""Pools with roles, and what must hold in every run of one."""

from __future__ import annotations

from typing import Any

import numpy as np
from move_cases import Scripted, assert_sound, inside

from gsim.cluster import InstanceSpec, RunResult, Status
from gsim.cluster.simulation import _Run
from gsim.core import Outcome, build
from gsim.engine import EngineConfig
from gsim.latency import constant_profile
from gsim.migration import LinkConfig

#: One GB/s, of which nothing is lost to busy hosts: what a copy takes can be calculated.
SLOW = LinkConfig("rdma_10g", busy_factor=1.0)
KV_BYTES = 131_072
CONTROL_S, LATENCY_S = 0.002, 5e-6


def pool(
    *roles: str, engine: str = "decode_clock", iteration_s: float = 0.01, **limits: Any
) -> tuple[InstanceSpec, ...]:
    """An instance for each role, all iterations of which take the same time."""
    options = {name: limits.pop(name) for name in ("kv_blocks", "max_num_seqs") if name in limits}
    profile = constant_profile(iteration_s, **limits)
    config = EngineConfig(name=engine, **options)
    return tuple(InstanceSpec(f"{role}-{i}", profile, config, role=role) for i, role in enumerate(roles))


def handed(
    instances: tuple[InstanceSpec, ...],
    sessions: Any,
    handover: Any = "least_kv",
    router: Any = "least_request",
    rectifier: Any = None,
    **scenario: Any,
) -> tuple[RunResult, _Run]:
    """Simulate a pool with roles, and keep the run to look into."""
    policy = build("handover", handover) if isinstance(handover, str) else handover
    scenario.setdefault("link", SLOW)
    mechanism = scenario.pop("mechanism", "kv_copy")
    return inside(instances, sessions, rectifier or Scripted({}), mechanism, router, handover=policy, **scenario)


def assert_handed_over(result: RunResult, run: _Run, n: int, *, may_fail: bool = False) -> None:
    """Invariants 1 to 4, and what handovers add to them."""
    assert_sound(result, run, n, may_fail=may_fail)
    h = result.handovers
    view = run.gateway.view
    assert not view.incoming.any()
    assert not view.incoming_tokens.any()
    assert not np.any(h["outcome"] == Outcome.UNDER_WAY)
    moved = h["outcome"] == Outcome.MOVED
    assert np.array_equal(np.isfinite(h["submitted_s"]), moved)
    assert result.counters["handovers"] == np.count_nonzero(moved)
    assert np.all(h["submitted_s"][moved] > h["stopped_s"][moved])
    for instance in run.instances:
        assert not kept(instance)
    # Nobody begins on a decode instance, and nobody goes on on a prefill instance.
    roles = view.static.role
    assert all(roles[i] != "decode" for i in h["source"].tolist())
    assert all(roles[i] != "prefill" for i in h["target"][moved].tolist())
    r = result.requests
    several = (r["status"] == Status.FINISHED) & (r["generated_tokens"] > 1)
    # (But for a request that began again with one token to go.)
    assert result.counters["retries"] or all(roles[i] != "prefill" for i in r["instance"][several].tolist())


def kept(instance: Any) -> list[int]:
    """The prefilled requests whose KV cache an instance still holds."""
    engine = instance._engine
    return list((engine.scheduler if hasattr(engine, "scheduler") else engine.clocked.scheduler).kept)


def row(columns: dict[str, Any], i: int = 0) -> dict[str, Any]:
    """One row of some columns."""
    return {name: values[i] for name, values in columns.items()}
