"""One run's configuration as built objects: the pool, the policies, the telemetry. Validated here, before the clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gsim.cluster.slot_config import SlotConfig
from gsim.core import BOTH, ConfigError, Estimator, Predictor, Rectifier, Router, Scaler
from gsim.core.role import check_role, check_roles
from gsim.engine import EngineConfig, EngineLimits
from gsim.engine.config import forecasts_of
from gsim.gateway.policies import Policies, needs_of
from gsim.gateway.telemetry_config import TelemetryConfig
from gsim.latency import Profile

if TYPE_CHECKING:
    from gsim.cluster.fault_config import FaultConfig
    from gsim.core import Handover
    from gsim.migration import LinkConfig, Mechanism


@dataclass(frozen=True)
class InstanceSpec:
    """One instance of the pool: a profile and the limits of the engine that runs on it."""

    name: str
    profile: Profile
    engine: EngineConfig = field(default_factory=EngineConfig)
    api_s: float = 0.0
    """Seconds between the gateway's sending a request and the engine's having it: HTTP, tokenizer, hand-over."""
    up: bool = True
    """It serves from the beginning; else its slot is off until a scaler starts it."""
    role: str = BOTH
    """``both``, ``prefill`` or ``decode``."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.api_s < math.inf:
            raise ConfigError(f"pool.api_s must be a finite number of seconds, 0 or more, not {self.api_s}")
        check_role(self.role, f"instance '{self.name}'")

    @property
    def limits(self) -> EngineLimits:
        """The engine's limits on this card (raises ``ConfigError`` where the engine refuses them)."""
        return self.engine.resolve(self.profile)


@dataclass(frozen=True)
class Scenario:
    """Everything that one run needs, but its sessions and its seed."""

    instances: tuple[InstanceSpec, ...]
    router: Router
    predictor: Predictor
    estimator: Estimator
    rectifier: Rectifier | None = None
    mechanism: Mechanism | None = None
    handover: Handover | None = None
    """Where requests go on after their prefill leg; asked only in a pool with roles."""
    link: LinkConfig | None = None
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    faults: FaultConfig | None = None
    max_hold_s: float = 600.0
    """A request that the router holds for longer is rejected (so that every run ends)."""
    scaler: Scaler | None = None
    """Who starts and stops instances; None: nobody."""
    slots: SlotConfig = field(default_factory=SlotConfig)
    """What starting and stopping takes."""

    def __post_init__(self) -> None:
        if not self.instances:
            raise ConfigError("pool.instances is empty; a pool needs at least one instance")
        names = [spec.name for spec in self.instances]
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise ConfigError(f"pool.instances: name '{twice[0]}' is used twice; names must differ")
        if not any(spec.up for spec in self.instances):
            raise ConfigError("pool.instances: every slot is off at the beginning; at least one instance must be up")
        sizes = sorted({spec.engine.block_size for spec in self.instances})
        if len(sizes) > 1:
            raise ConfigError(f"pool.instances: block_size differs between instances ({sizes}); it must be one value")
        roles = [spec.role for spec in self.instances]
        check_roles(names, roles, [spec.profile.layout for spec in self.instances])
        if not self.max_hold_s > 0 or math.isnan(self.max_hold_s):
            raise ConfigError(f"max_hold_s must be greater than 0, not {self.max_hold_s}")
        if self.faults is not None:
            self.faults.check(len(self.instances))
        if self.has_roles and self.handover is None:
            raise ConfigError("a pool with roles needs a policy for handovers; choose one of the group 'handover'")
        if self.has_roles and self.has_slots:
            raise ConfigError(
                "a pool with roles has a fixed size: give no scaler (scaler=fixed) and let all instances be up"
            )
        if self.mechanism is None and self.policies.reviews:
            raise ConfigError("a rectifier that migrates needs a mechanism; choose one of the group 'mechanism'")

    @property
    def policies(self) -> Policies:
        """Who decides in this run."""
        handover = self.handover if self.has_roles else None
        return Policies(
            self.router, self.predictor, self.estimator, self.rectifier, self.mechanism, self.scaler, handover
        )

    @property
    def has_slots(self) -> bool:
        """Whether anything but a fixed pool is asked for: somebody scales, or a slot is off."""
        return self.policies.scales or not all(spec.up for spec in self.instances)

    @property
    def has_roles(self) -> bool:
        """Whether instances differ in whose legs they take."""
        return any(spec.role != BOTH for spec in self.instances)

    @property
    def scrape_interval_s(self) -> float:
        """Seconds between two scrapes (the configured value, else the router's own habit, else 50 ms)."""
        if self.telemetry.interval_s is not None:
            return self.telemetry.interval_s
        return float(getattr(self.router, "scrape_interval_s", None) or 0.05)

    @property
    def forecasts(self) -> frozenset[str]:
        """What the policies of the engines' queues want to be sent along with requests."""
        return frozenset().union(*(forecasts_of(spec.engine.policy) for spec in self.instances))

    @property
    def routes_by_gauges(self) -> bool:
        """Whether every decision looks at scraped gauges, or is logged with them, or a scaler looks at them."""
        policies = self.policies
        asked = [(group, getattr(policies, group)) for group in ("router", "handover", "scaler")]
        return self.telemetry.log_decisions or any("scrape" in needs_of(group, policy) for group, policy in asked)
