"""What there is to choose: the options of every configuration group, from the registry and from this package."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gsim.cluster import TelemetryConfig
from gsim.cluster.fault_config import FaultConfig
from gsim.core import registry
from gsim.migration import LINKS, LinkConfig
from gsim.run.pool import POOLS, PoolConfig
from gsim.workload.dynamics import Drift, LoadStep, RateCurve

#: The groups that make up one run, in the order in which they are listed, each with its default option.
RUN_GROUPS: Mapping[str, str] = {
    "pool": "paper",
    "trace": "paper",
    "slo": "fixed",
    "router": "goodserve",
    "predictor": "noisy",
    "estimator": "ema",
    "rectifier": "risk_monitor",
    "mechanism": "token_ids",
    "handover": "least_kv",
    "scaler": "fixed",
    "link": "rdma_100g",
    "telemetry": "default",
    "engine": "decode_clock",
    "faults": "none",
    "dynamics": "none",
}


#: Groups whose options are named in a field of another group: group -> that field.
FIELD_GROUPS: Mapping[str, str] = {"scheduler": "engine.policy"}


@dataclass(frozen=True)
class Option:
    """One choice of a group: the dataclass of its fields (None: it has none) and values that replace its defaults."""

    name: str
    config: type | None
    summary: str
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_NONE = Option("none", None, "Nothing of the kind.")
_OWN: Mapping[str, tuple[Option, ...]] = {
    "pool": tuple(
        Option(name, PoolConfig, summary, {"instances": pool.instances, "copies": pool.copies})
        for name, (summary, pool) in POOLS.items()
    ),
    "telemetry": (Option("default", TelemetryConfig, (TelemetryConfig.__doc__ or "").partition("\n")[0]),),
    "link": tuple(
        Option(name, LinkConfig, f"{link.rate_bytes_per_s / 1e9:.3g} GB/s alone") for name, link in LINKS.items()
    ),
    "faults": (_NONE, Option("injected", FaultConfig, (FaultConfig.__doc__ or "").partition("\n")[0])),
    "dynamics": (
        _NONE,
        Option("load_step", LoadStep, "From a time on, requests arrive faster."),
        Option("burst", LoadStep, "For some seconds, requests arrive faster.", {"for_s": 10.0, "factor": 3.0}),
        Option("day", RateCurve, (RateCurve.__doc__ or "").partition("\n")[0]),
        Option("drift", Drift, (Drift.__doc__ or "").partition("\n")[0]),
    ),
    "mechanism": (_NONE,),
}


def options(group: str) -> dict[str, Option]:
    """The options of a group by name."""
    found = {option.name: option for option in _OWN.get(group, ())}
    for inner, field in FIELD_GROUPS.items():
        if field.startswith(f"{group}."):
            # Who reads a run's configuration must know what its fields name.
            registry.entries(inner)
    for name, entry in registry.entries(group).items() if group in registry.groups() else ():
        found[name] = Option(name, entry.config, entry.summary)
    return found
