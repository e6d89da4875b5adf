"""Pools: which GPUs serve, and the ready-made ones of the group ``pool``."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gsim.cluster import InstanceSpec
from gsim.cluster.slot_config import SlotConfig
from gsim.core import BOTH, DECODE, PREFILL, ConfigError
from gsim.core.construct import construct
from gsim.core.role import check_role
from gsim.engine import EngineConfig
from gsim.latency import Profile, load_profile

#: What a request spends in a vLLM server outside the engine: 15 to 20 ms on a quiet server (docs/profiles.md).
API_S = 0.015
#: More is a slip of the pen, and more than there is memory for.
MOST_INSTANCES = 100_000


@dataclass(frozen=True)
class InstanceGroup:
    """Some equal instances."""

    profile: str
    """Name of a profile (``./profiles`` first, then what gsim brings), or a path."""
    count: int = 1
    engine: dict[str, Any] = field(default_factory=dict)
    """Engine options that differ here from the run's ``engine`` (``max_num_seqs`` ...)."""
    up: int | None = None
    """So many of them serve from the beginning, the others are slots that a scaler may start (None: all serve)."""
    role: str = BOTH
    """``both``, ``prefill`` (prompts only; outputs are generated elsewhere) or ``decode`` (outputs only)."""


@dataclass(frozen=True)
class PoolConfig:
    """The instances that serve."""

    instances: tuple[InstanceGroup, ...] = ()
    """``[{profile: NAME, count: 2, engine: {max_num_seqs: 64}}, ...]``."""
    copies: int = 1
    """The whole list this many times: scales a pool without changing its mixture."""
    api_s: float = API_S
    """Seconds from the gateway's sending a request until the engine has it (HTTP, tokenizer); 0: none."""

    slots: SlotConfig = field(default_factory=SlotConfig)
    """What starting and stopping an instance takes, where a ``scaler`` does that."""

    def __post_init__(self) -> None:
        if not self.instances:
            raise ConfigError("pool.instances is empty; give a list such as [{profile: h800-llama-3.1-8b, count: 2}]")
        if self.copies < 1:
            raise ConfigError(f"pool.copies must be 1 or more, not {self.copies}")
        for group in self.instances:
            if not 1 <= group.count <= MOST_INSTANCES:
                raise ConfigError(
                    f"pool.instances: count of '{group.profile}' must be from 1 to {MOST_INSTANCES}, not {group.count}"
                )
            if group.up is not None and not 0 <= group.up <= group.count:
                raise ConfigError(
                    f"pool.instances: up of '{group.profile}' must be from 0 to its count ({group.count}), "
                    f"not {group.up}"
                )
            check_role(group.role, f"pool.instances '{group.profile}'")
        total = self.copies * sum(group.count for group in self.instances)
        if total > MOST_INSTANCES:
            raise ConfigError(f"pool.copies {self.copies}: that are {total} instances; at most {MOST_INSTANCES}")

    def build(self, engine: EngineConfig) -> tuple[InstanceSpec, ...]:
        """The instances, each with its profile loaded; named by their GPU and a number where there are several."""
        rows = [
            (load_profile(group.profile), _engine(group.profile, group.engine, engine))
            for group in self.instances
            for _ in range(group.count)
        ]
        roles = [group.role for group in self.instances for _ in range(group.count)]
        up = [
            i < (group.count if group.up is None else group.up) for group in self.instances for i in range(group.count)
        ]
        specs = instance_specs(rows * self.copies, self.api_s, roles * self.copies)
        return tuple(dataclasses.replace(spec, up=one) for spec, one in zip(specs, up * self.copies, strict=True))


def _engine(profile: str, own: Mapping[str, Any], engine: EngineConfig) -> EngineConfig:
    """The run's engine with the options that an instance has of its own."""
    values = {field.name: getattr(engine, field.name) for field in dataclasses.fields(engine)}
    made: EngineConfig = construct(EngineConfig, {**values, **own}, f"pool.instances '{profile}': engine")
    return made


def instance_specs(
    rows: Sequence[tuple[Profile, EngineConfig]], api_s: float, roles: Sequence[str] = ()
) -> tuple[InstanceSpec, ...]:
    """Instances, named by their GPU (and role), and a number where there are several; no ``roles``: all are ``both``.

    Raises ``ConfigError`` where they do not all serve one model.
    """
    served = sorted({profile.model.name for profile, _ in rows})
    if len(served) > 1:
        raise ConfigError(
            f"pool.instances serve different models ({', '.join(served)}), and no trace says which model a request "
            "wants; give a pool of one model"
        )
    roles = roles or [BOTH] * len(rows)
    kinds = [
        profile.gpu if role == BOTH else f"{profile.gpu}-{role}" for (profile, _), role in zip(rows, roles, strict=True)
    ]
    totals = Counter(kinds)
    seen: Counter[str] = Counter()
    specs = []
    for kind, role, (profile, options) in zip(kinds, roles, rows, strict=True):
        name = f"{kind}-{seen[kind]}" if totals[kind] > 1 else kind
        seen[kind] += 1
        specs.append(InstanceSpec(name, profile, options, api_s, role=role))
    return tuple(specs)


def _pool(*profiles: str | tuple[str, int]) -> PoolConfig:
    pairs = [(p, 1) if isinstance(p, str) else p for p in profiles]
    return PoolConfig(tuple(InstanceGroup(name, count) for name, count in pairs))


#: The ready-made pools: name -> (what it is, the pool).
POOLS: Mapping[str, tuple[str, PoolConfig]] = {
    "paper": (
        "One each of V100, A40, A800, H800 with Llama-3.1-8B (the GoodServe testbed).",
        _pool("v100-llama-3.1-8b", "a40-llama-3.1-8b", "a800-llama-3.1-8b", "h800-llama-3.1-8b"),
    ),
    "uniform": ("Four A800 with Llama-3.1-8B: a control without any heterogeneity.", _pool(("a800-llama-3.1-8b", 4))),
    "split": (
        "Four A800 with Llama-3.1-8B, one of which computes prompts and three generate outputs.",
        PoolConfig(
            (
                InstanceGroup("a800-llama-3.1-8b", 1, role=PREFILL),
                InstanceGroup("a800-llama-3.1-8b", 3, role=DECODE),
            )
        ),
    ),
    "large": (
        "Llama-3.1-70B on two H800 instances of 4 cards, four A800 of 4 and two A40 of 8.",
        _pool(("h800-llama-3.1-70b-tp4", 2), ("a800-llama-3.1-70b-tp4", 4), ("a40-llama-3.1-70b-tp8", 2)),
    ),
    "two_tier": (
        "One H800 and four A40 with Llama-3.1-8B: few strong cards, many weak ones.",
        _pool("h800-llama-3.1-8b", ("a40-llama-3.1-8b", 4)),
    ),
}
