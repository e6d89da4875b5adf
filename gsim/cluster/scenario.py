"""One run's configuration as built objects: the pool, the policies, the telemetry. Validated here, before the clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gsim.core import ConfigError, Estimator, Predictor, Rectifier, Router
from gsim.core.answers import interval_of, title
from gsim.core.policy_view import SIGNALS
from gsim.engine import EngineConfig, EngineLimits
from gsim.latency import Profile

if TYPE_CHECKING:
    from gsim.cluster.fault_config import FaultConfig
    from gsim.migration import LinkConfig, Mechanism


@dataclass(frozen=True)
class InstanceSpec:
    """One instance of the pool: a profile and the limits of the engine that runs on it."""

    name: str
    profile: Profile
    engine: EngineConfig = field(default_factory=EngineConfig)

    @property
    def limits(self) -> EngineLimits:
        """The engine's limits on this card (raises ``ConfigError`` where the engine refuses them)."""
        return self.engine.resolve(self.profile)


@dataclass(frozen=True)
class TelemetryConfig:
    """How fresh the gateway's view is."""

    interval_s: float | None = None
    """Seconds between two scrapes of an instance's metrics; None: what the router's real system uses, else 0.05."""
    in_flight_correction: bool = True
    """Between scrapes, count the gateway's own dispatches and completions into the scraped running and waiting."""
    stream_interval_s: float = 0.5
    """How often the tokens that streamed through the gateway are handed to the estimator."""
    sample_interval_s: float | None = None
    """Record the state of every instance this often, for time lines and figures; None: never."""
    prefix_block_tokens: int = 64
    """Block length of the gateway's approximate prefix index."""
    prefix_capacity: float = 1.0
    """Size of that index per instance, as a multiple of the instance's KV capacity."""
    log_decisions: bool = False
    """Keep what the router saw and chose for every request (``explain``, time lines)."""

    def __post_init__(self) -> None:
        for name in ("interval_s", "stream_interval_s", "sample_interval_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"telemetry.{name} must be greater than 0, not {value}")
        if self.prefix_block_tokens < 1:
            raise ConfigError(f"telemetry.prefix_block_tokens must be 1 or more, not {self.prefix_block_tokens}")
        if not self.prefix_capacity > 0:
            raise ConfigError(f"telemetry.prefix_capacity must be greater than 0, not {self.prefix_capacity}")


@dataclass(frozen=True)
class Scenario:
    """Everything that one run needs, but its sessions and its seed."""

    instances: tuple[InstanceSpec, ...]
    router: Router
    predictor: Predictor
    estimator: Estimator
    rectifier: Rectifier | None = None
    mechanism: Mechanism | None = None
    link: LinkConfig | None = None
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    faults: FaultConfig | None = None
    max_hold_s: float = 600.0
    """A request that the router holds for longer is rejected (so that every run ends)."""

    def __post_init__(self) -> None:
        if not self.instances:
            raise ConfigError("pool.instances is empty; a pool needs at least one instance")
        names = [spec.name for spec in self.instances]
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise ConfigError(f"pool.instances: name '{twice[0]}' is used twice; names must differ")
        sizes = sorted({spec.engine.block_size for spec in self.instances})
        if len(sizes) > 1:
            raise ConfigError(f"pool.instances: block_size differs between instances ({sizes}); it must be one value")
        if not self.max_hold_s > 0 or math.isnan(self.max_hold_s):
            raise ConfigError(f"max_hold_s must be greater than 0, not {self.max_hold_s}")
        if self.faults is not None:
            self.faults.check(len(self.instances))
        if self.mechanism is None and self.reviews:
            raise ConfigError("a rectifier that migrates needs a mechanism; choose one of the group 'mechanism'")

    @property
    def policies(self) -> dict[str, object]:
        """The policies of the run, by group."""
        groups = ("router", "predictor", "estimator", "rectifier", "mechanism")
        return {group: getattr(self, group) for group in groups if getattr(self, group) is not None}

    @property
    def reviews(self) -> bool:
        """Whether somebody reviews the requests in flight."""
        if self.rectifier is None:
            return False
        return interval_of(self.rectifier, title("rectifier", self.rectifier)) < math.inf

    @property
    def scrape_interval_s(self) -> float:
        """Seconds between two scrapes (the configured value, else the router's own habit, else 50 ms)."""
        if self.telemetry.interval_s is not None:
            return self.telemetry.interval_s
        return float(getattr(self.router, "scrape_interval_s", None) or 0.05)

    @property
    def routes_by_gauges(self) -> bool:
        """Whether every decision looks at scraped gauges, or is logged with them."""
        return "scrape" in needs_of(self.router) or self.telemetry.log_decisions

    @property
    def needs(self) -> frozenset[str]:
        """The costly classes of signals that the router or the rectifier declares to use."""
        return needs_of(self.router) | needs_of(self.rectifier)


def needs_of(policy: object) -> frozenset[str]:
    """The classes of costly signals that a policy declares; ``ConfigError`` where one of them is unknown."""
    known = SIGNALS.keys()
    asked = frozenset(getattr(policy, "needs", frozenset()))
    if asked - known:
        raise ConfigError(f"{type(policy).__name__}.needs: {sorted(asked - known)} unknown; allowed: {sorted(known)}")
    return asked
