"""How an engine is configured, and the concrete limits that follow on one card."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from gsim.core import registry
from gsim.core.errors import ConfigError
from gsim.engine.host_kv import HostKvConfig, HostKvLimits
from gsim.engine.speculation import SpeculationConfig
from gsim.latency.profile import Profile

#: The policies of the queue that the engine has built in: vLLM's own.
BUILT_IN = ("fcfs", "priority")

#: More blocks or tokens are a slip of the pen (and no number of 64 bits, multiplied).
_MOST = 2**31 - 1
#: What a policy can declare in ``needs``: the predicted mean, its distribution (where the predictor gives one).
FORECASTS = frozenset({"prediction", "quantiles"})


@dataclass(frozen=True)
class EngineLimits:
    """What one instance's engine works with: every value concrete and checked."""

    block_size: int
    kv_blocks: int
    """KV blocks that requests can hold (vLLM's own null block is not among them)."""
    max_num_batched_tokens: int
    max_num_seqs: int
    max_model_len: int
    prefix_caching: bool = True
    policy: str = "fcfs"
    policy_fields: Mapping[str, Any] = field(default_factory=dict)
    async_scheduling: bool = True
    cpu_schedule_s: float = 0.0
    long_prefill_token_threshold: int = 0
    watermark: float = 0.0
    kv_bytes_per_token: float = 0.0
    """Of the deployment; 0: nobody said."""
    speculation: SpeculationConfig | None = None
    host_kv: HostKvLimits | None = None

    def __post_init__(self) -> None:
        for name in ("block_size", "kv_blocks", "max_num_batched_tokens", "max_num_seqs"):
            if not 1 <= getattr(self, name) <= _MOST:
                raise ConfigError(f"engine.{name} must be from 1 to {_MOST}, not {getattr(self, name)}")
        if self.max_model_len < 2:
            raise ConfigError(
                f"engine.max_model_len must be 2 or more (a prompt and a token), not {self.max_model_len}"
            )
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ConfigError(
                f"engine.max_num_batched_tokens ({self.max_num_batched_tokens}) must be at least engine.max_num_seqs "
                f"({self.max_num_seqs}), as vLLM requires"
            )
        if self.policy not in BUILT_IN or self.policy_fields:
            check_policy(self.policy, self.policy_fields)
        if self.long_prefill_token_threshold < 0:
            raise ConfigError(
                f"engine.long_prefill_token_threshold must be 0 (off) or more, not {self.long_prefill_token_threshold}"
            )
        if not 0.0 <= self.watermark < 1.0:
            raise ConfigError(f"engine.watermark must be in [0, 1), not {self.watermark}")
        if not 0.0 <= self.cpu_schedule_s < math.inf:
            raise ConfigError(f"engine.cpu_schedule_s must be 0 or more, not {self.cpu_schedule_s}")
        if self.host_kv is not None and not self.prefix_caching:
            raise ConfigError("engine.host_kv keeps what prefix_caching found worth a name: allowed with it alone")

    @property
    def watermark_blocks(self) -> int:
        """Blocks that an admission leaves free while others run (as vLLM counts: its null block too, rounded down)."""
        return int(self.watermark * (self.kv_blocks + 1))

    def blocks_of(self, tokens: int) -> int:
        """Blocks that hold ``tokens`` tokens."""
        return -(-tokens // self.block_size)


@dataclass(frozen=True)
class EngineConfig:
    """The engine of an instance, as one would start vLLM; None means the profile's own value."""

    name: str = "decode_clock"
    """``decode_clock`` (jumps from change to change of the batch) or ``stepwise`` (the readable reference)."""
    block_size: int = 16
    """Tokens in a KV block."""
    max_num_batched_tokens: int | None = None
    """Tokens computed in one iteration at most; None: vLLM's default for the class of GPU."""
    max_num_seqs: int | None = None
    """Sequences in a batch at most; None: vLLM's default for the class of GPU."""
    max_model_len: int | None = None
    """Longest sequence, prompt and output; None: the profile's, or what the KV blocks hold if that is less."""
    kv_blocks: int | None = None
    """KV blocks of the instance; None: what the profile's KV capacity holds."""
    prefix_caching: bool = True
    """Keep the KV of full blocks for later prompts with the same prefix."""
    policy: str | Mapping[str, Any] = "fcfs"
    """Order of the queue, admission and preemption: a policy of the group ``scheduler``, by its name or with its
    fields, ``{name: shortest_predicted, ageing: 2}``."""
    async_scheduling: bool = True
    """Schedule while the GPU computes: an iteration takes max(``cpu_schedule_s``, GPU) instead of the sum."""
    cpu_schedule_s: float = 0.0
    """CPU time of scheduling per iteration that the profile does not contain; 0: the profile has it all."""
    long_prefill_token_threshold: int = 0
    """Prompt tokens of one request per iteration at most, while there are others; 0: no such limit."""
    watermark: float = 0.0
    """Share of the KV blocks that an admission leaves free while other requests run."""
    speculation: SpeculationConfig = field(default_factory=SpeculationConfig)
    """Speculative decoding (off). On, an engine goes from iteration to iteration, also as ``decode_clock``."""
    host_kv: HostKvConfig = field(default_factory=HostKvConfig)
    """Host memory into which evicted KV blocks fall (none: they are gone)."""

    def resolve(self, profile: Profile) -> EngineLimits:
        """The limits on ``profile``'s card; raises ``ConfigError`` where vLLM would refuse to start."""
        limit = profile.domain.limit
        for name, allowed in (
            ("max_num_seqs", limit.sequences),
            ("max_num_batched_tokens", limit.batch_tokens),
            ("max_model_len", min(limit.context_tokens, profile.max_model_len)),
        ):
            asked = getattr(self, name)
            if asked is not None and asked > allowed:
                raise ConfigError(f"engine.{name} is {asked}, but profile '{profile.name}' allows at most {allowed}")
        if self.block_size < 1:
            raise ConfigError(f"engine.block_size must be 1 or more, not {self.block_size}")
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "name"}
        values["policy"], values["policy_fields"] = named_policy(self.policy)
        values["kv_bytes_per_token"] = float(profile.deployment.kv_bytes_per_token)
        for name in ("max_num_batched_tokens", "max_num_seqs"):
            if values[name] is None:
                values[name] = getattr(profile, name)
        if values["kv_blocks"] is None:
            values["kv_blocks"] = profile.kv_tokens // self.block_size
        values["speculation"] = self.speculation if self.speculation.on else None
        values["host_kv"] = None
        if self.host_kv.on:
            deployment = profile.deployment
            block_bytes = deployment.kv_bytes_per_token * self.block_size
            values["host_kv"] = self.host_kv.resolve(block_bytes, deployment.cards)
        # vLLM does not start where one sequence of max_model_len would not fit its KV cache.
        held = values["kv_blocks"] * self.block_size
        if self.max_model_len is None:
            values["max_model_len"] = min(profile.max_model_len, held)
        elif self.max_model_len > held:
            raise ConfigError(
                f"engine.max_model_len is {self.max_model_len}, but the KV blocks of profile '{profile.name}' hold "
                f"{held} tokens: vLLM would not start"
            )
        return EngineLimits(**values)


def named_policy(policy: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and fields of ``engine.policy``; raises ``ConfigError`` where it has no name."""
    if isinstance(policy, str):
        return policy, {}
    if not isinstance(policy, Mapping) or not isinstance(policy.get("name"), str):
        raise ConfigError(f"engine.policy must be a name, or {{name: NAME, field: value}}; not {policy!r}")
    return policy["name"], {str(key): value for key, value in policy.items() if key != "name"}


def check_policy(name: str, fields: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` where there is no such policy of the queue, or it refuses its fields."""
    known = registry.entries("scheduler")
    if name not in known:
        raise ConfigError(f"engine.policy '{name}' unknown; allowed: {', '.join(known)}")
    registry.build("scheduler", name, **fields)


def forecasts_of(policy: str | Mapping[str, Any]) -> frozenset[str]:
    """What a policy of the queue wants to be sent along with requests; ``ConfigError`` for what there is not."""
    name, _ = named_policy(policy)
    if name in BUILT_IN:
        return frozenset()
    needs = frozenset(getattr(registry.lookup("scheduler", name).cls, "needs", frozenset()))
    unknown = sorted(needs - FORECASTS)
    if unknown:
        raise ConfigError(f"scheduler '{name}' declares unknown needs: {unknown}; allowed: {sorted(FORECASTS)}")
    return needs
