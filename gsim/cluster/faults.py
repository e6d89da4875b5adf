"""What goes wrong: crashes and restarts, slow-downs, lost telemetry, degraded links; planned, or at random times."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from math import inf, isnan
from typing import TYPE_CHECKING, Any

import numpy as np
import simpy

from gsim.core import ConfigError

if TYPE_CHECKING:
    from gsim.cluster.gateway import Gateway
    from gsim.cluster.links import LinkNetwork
    from gsim.cluster.moves import Moves
    from gsim.cluster.telemetry import Scraper

_KINDS = ("crash", "slow", "telemetry", "link")


@dataclass(frozen=True)
class Fault:
    """One planned fault."""

    kind: str = "crash"
    """``crash`` (the instance is lost and comes back empty), ``slow`` (its iterations take 1 / ``factor`` of their
    time), ``telemetry`` (its metrics cannot be read) or ``link`` (all links carry ``factor`` of their bandwidth)."""
    at_s: float = 0.0
    """When it begins."""
    for_s: float = inf
    """How long it lasts."""
    instance: int = 0
    """Whom it hits (index in the pool; not used by ``link``)."""
    factor: float = 0.5
    """Speed or bandwidth that is left, in (0, 1]."""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ConfigError(f"faults.planned: kind '{self.kind}' is unknown; allowed: {', '.join(_KINDS)}")
        if not 0 <= self.at_s < inf:
            raise ConfigError(f"faults.planned: at_s must be 0 or more, not {self.at_s}")
        if not self.for_s > 0:
            raise ConfigError(f"faults.planned: for_s must be greater than 0, not {self.for_s}")
        if self.instance < 0:
            raise ConfigError(f"faults.planned: instance must be 0 or more, not {self.instance}")
        if not 0 < self.factor <= 1:
            raise ConfigError(f"faults.planned: factor must be in (0, 1], not {self.factor}")


@dataclass(frozen=True)
class FaultConfig:
    """The faults of a run: a plan, and crashes and slow-downs at random times (each instance on its own)."""

    planned: tuple[Fault, ...] = ()
    """Faults at stated times."""
    crash_every_s: float | None = None
    """Mean time between an instance's return and its next crash (exponential); None: no random crashes."""
    restart_s: float = 30.0
    """How long an instance that crashed at random stays away."""
    slow_every_s: float | None = None
    """Mean time between the end of an instance's slow-down and its next; None: no random slow-downs."""
    slow_for_s: float = 20.0
    """How long a random slow-down lasts."""
    slow_factor: float = 0.5
    """Speed that is left in a random slow-down, in (0, 1]."""
    on_crash: str = "retry"
    """What becomes of the requests on a crashed instance: ``retry`` (through the router, by token ids) or ``fail``."""

    def __post_init__(self) -> None:
        for name in ("crash_every_s", "slow_every_s", "restart_s", "slow_for_s"):
            value = getattr(self, name)
            if value is not None and (isnan(value) or not value > 0):
                raise ConfigError(f"faults.{name} must be greater than 0, not {value}")
        if not 0 < self.slow_factor <= 1:
            raise ConfigError(f"faults.slow_factor must be in (0, 1], not {self.slow_factor}")
        if self.on_crash not in ("retry", "fail"):
            raise ConfigError(f"faults.on_crash '{self.on_crash}' is unknown; allowed: retry, fail")

    def check(self, instances: int) -> None:
        """Raise ``ConfigError`` where a planned fault names an instance that the pool does not have."""
        for fault in self.planned:
            if fault.instance >= instances:
                raise ConfigError(
                    f"faults.planned: instance {fault.instance} does not exist; the pool has {instances} (from 0)"
                )

    @property
    def active(self) -> bool:
        """Whether anything can go wrong."""
        return bool(self.planned) or self.crash_every_s is not None or self.slow_every_s is not None


@dataclass
class Faults:
    """Makes the faults of a run happen. Overlapping faults of one kind on one instance end together with the last."""

    config: FaultConfig
    gateway: Gateway
    scraper: Scraper
    rng: np.random.Generator
    moves: Moves | None = None
    network: LinkNetwork | None = None
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((f"fault_{kind}" for kind in _KINDS), 0))
    """Faults that began, by kind."""
    _depth: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def start(self) -> None:
        """Start the processes."""
        self.config.check(len(self.gateway.instances))
        env = self.gateway.env
        for fault in sorted(self.config.planned, key=lambda fault: fault.at_s):
            env.process(self._planned(fault))
        # One stream per instance and kind: a crash here does not move the slow-downs there.
        streams = self.rng.spawn(2 * len(self.gateway.instances))
        for index in range(len(self.gateway.instances)):
            if self.config.crash_every_s is not None:
                crash = Fault("crash", for_s=self.config.restart_s, instance=index)
                env.process(self._random(crash, self.config.crash_every_s, streams[2 * index]))
            if self.config.slow_every_s is not None:
                slow = Fault("slow", 0.0, self.config.slow_for_s, index, self.config.slow_factor)
                env.process(self._random(slow, self.config.slow_every_s, streams[2 * index + 1]))

    def _planned(self, fault: Fault) -> Generator[simpy.Event, Any, None]:
        if fault.at_s > 0:
            yield self.gateway.env.timeout(fault.at_s)
        yield from self._happen(fault)

    def _random(self, fault: Fault, every_s: float, rng: np.random.Generator) -> Generator[simpy.Event, Any, None]:
        while True:
            yield self.gateway.env.timeout(rng.exponential(every_s))
            yield from self._happen(fault)

    def _happen(self, fault: Fault) -> Generator[simpy.Event, Any, None]:
        """Begin, last, end."""
        self.counts[f"fault_{fault.kind}"] += 1
        key = (fault.kind, -1 if fault.kind == "link" else fault.instance)
        under_way = self._depth.setdefault(key, [])
        under_way.append(fault.factor)
        self._apply(fault, under_way, begins=True)
        if fault.for_s == inf:
            return
        yield self.gateway.env.timeout(fault.for_s)
        under_way.remove(fault.factor)
        self._apply(fault, under_way, begins=False)

    def _apply(self, fault: Fault, under_way: list[float], *, begins: bool) -> None:
        """Bring the world in line with the faults of one kind that are under way in one place."""
        worst = min(under_way, default=1.0)
        now_s = self.gateway.env.now
        if fault.kind == "slow":
            instance = self.gateway.instances[fault.instance]
            instance.sync(now_s)
            instance.set_speed(worst, now_s)
        elif fault.kind == "telemetry":
            self.scraper.lost[fault.instance] = bool(under_way)
        elif fault.kind == "link":
            if self.network is not None:
                self.network.degrade(worst)
        elif begins and len(under_way) == 1:
            self.gateway.crash(fault.instance, retry=self.config.on_crash == "retry")
            if self.moves is not None:
                self.moves.crashed(fault.instance)
        elif not under_way:
            self.gateway.restart(fault.instance)
