"""Which faults a run has: planned ones, and random ones by their mean times."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isnan

from gsim.core import ConfigError
from gsim.core.construct import FloatOrInf

#: Random faults come no more often than that, on average.
_OFTEN_S = 0.001
FAULT_KINDS = ("crash", "slow", "telemetry", "link")


@dataclass(frozen=True)
class Fault:
    """One planned fault."""

    kind: str = "crash"
    """``crash`` (the instance is lost and comes back empty), ``slow`` (its iterations take 1 / ``factor`` of their
    time), ``telemetry`` (its metrics cannot be read) or ``link`` (all links carry ``factor`` of their bandwidth)."""
    at_s: float = 0.0
    """When it begins."""
    for_s: FloatOrInf = inf
    """How long it lasts (inf: to the end)."""
    instance: int = 0
    """Whom it hits (index in the pool; not used by ``link``)."""
    factor: float = 0.5
    """Speed or bandwidth that is left, in (0, 1]."""

    def __post_init__(self) -> None:
        if self.kind not in FAULT_KINDS:
            raise ConfigError(f"faults.planned: kind '{self.kind}' is unknown; allowed: {', '.join(FAULT_KINDS)}")
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
    restart_s: FloatOrInf = 30.0
    """How long an instance that crashed at random stays away (inf: to the end)."""
    slow_every_s: float | None = None
    """Mean time between the end of an instance's slow-down and its next; None: no random slow-downs."""
    slow_for_s: FloatOrInf = 20.0
    """How long a random slow-down lasts (inf: to the end)."""
    slow_factor: float = 0.5
    """Speed that is left in a random slow-down, in (0, 1]."""
    on_crash: str = "retry"
    """What becomes of the requests on a crashed instance: ``retry`` (through the router, by token ids) or ``fail``."""

    def __post_init__(self) -> None:
        for name in ("crash_every_s", "slow_every_s", "restart_s", "slow_for_s"):
            value = getattr(self, name)
            if value is not None and (isnan(value) or not value > 0):
                raise ConfigError(f"faults.{name} must be greater than 0, not {value}")
            if value is not None and value < _OFTEN_S and name.endswith("every_s"):
                raise ConfigError(f"faults.{name} must be {_OFTEN_S:g} or more, not {value}: nothing else would happen")
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
