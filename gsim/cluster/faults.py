"""What goes wrong: crashes and restarts, slow-downs, lost telemetry, degraded links; planned, or at random times."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from gsim.cluster.fault_config import FAULT_KINDS, Fault, FaultConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gsim.cluster.instance import Instance
    from gsim.gateway.clock import Clock, Steps
    from gsim.gateway.fleet import Fleet
    from gsim.gateway.gateway import Gateway
    from gsim.gateway.moves import Moves
    from gsim.gateway.moving.links import LinkNetwork
    from gsim.gateway.telemetry import Scraper


@dataclass
class Faults:
    """Makes the faults of a run happen. Overlapping faults of one kind on one instance end together with the last."""

    config: FaultConfig
    clock: Clock
    gateway: Gateway
    instances: Sequence[Instance]
    scraper: Scraper
    rng: np.random.Generator
    moves: Moves | None = None
    network: LinkNetwork | None = None
    fleet: Fleet | None = None
    """Where instances start and stop: a fault in a slot without one hits nobody, and delays who boots there."""
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((f"fault_{kind}" for kind in FAULT_KINDS), 0))
    """Faults that began, by kind."""
    _depth: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def start(self) -> None:
        """Start the processes."""
        self.config.check(len(self.instances))
        for fault in sorted(self.config.planned, key=lambda fault: fault.at_s):
            self.clock.start(self._planned(fault))
        # One stream per instance and kind: a crash here does not move the slow-downs there.
        streams = self.rng.spawn(2 * len(self.instances))
        for index in range(len(self.instances)):
            if self.config.crash_every_s is not None:
                crash = Fault("crash", for_s=self.config.restart_s, instance=index)
                self.clock.start(self._random(crash, self.config.crash_every_s, streams[2 * index]))
            if self.config.slow_every_s is not None:
                slow = Fault("slow", 0.0, self.config.slow_for_s, index, self.config.slow_factor)
                self.clock.start(self._random(slow, self.config.slow_every_s, streams[2 * index + 1]))

    def _planned(self, fault: Fault) -> Steps[None]:
        if fault.at_s > 0:
            yield fault.at_s
        yield from self._happen(fault)

    def _random(self, fault: Fault, every_s: float, rng: np.random.Generator) -> Steps[None]:
        while True:
            yield rng.exponential(every_s)
            yield from self._happen(fault)

    def _happen(self, fault: Fault) -> Steps[None]:
        """Begin, last, end."""
        self.counts[f"fault_{fault.kind}"] += 1
        key = (fault.kind, -1 if fault.kind == "link" else fault.instance)
        under_way = self._depth.setdefault(key, [])
        under_way.append(fault.factor)
        self._apply(fault, under_way, begins=True)
        if fault.for_s == inf:
            return
        yield fault.for_s
        under_way.remove(fault.factor)
        self._apply(fault, under_way, begins=False)

    def _apply(self, fault: Fault, under_way: list[float], *, begins: bool) -> None:
        """Bring the world in line with the faults of one kind that are under way in one place."""
        self.gateway.loops.wake()
        worst = min(under_way, default=1.0)
        now_s = self.clock.now
        if fault.kind == "slow":
            instance = self.instances[fault.instance]
            instance.sync(now_s)
            instance.set_speed(worst, now_s)
        elif fault.kind == "telemetry":
            self.scraper.lost[fault.instance] = bool(under_way)
        elif fault.kind == "link":
            if self.network is not None:
                self.network.degrade(worst)
        elif begins and len(under_way) == 1:
            if self.fleet is None or self.fleet.crash(fault.instance):
                self.gateway.crash(fault.instance, retry=self.config.on_crash == "retry")
                if self.moves is not None:
                    self.moves.crashed(fault.instance)
        elif not under_way and (self.fleet is None or self.fleet.restored(fault.instance)):
            self.gateway.restart(fault.instance)
