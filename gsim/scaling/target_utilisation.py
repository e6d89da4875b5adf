"""Instances in proportion to one measured usage: what Kubernetes' HPA and KEDA do."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gsim.core import ClusterView, ConfigError, Drain, Slots, Start, StaticView, register
from gsim.core.view import Floats
from gsim.scaling.variants import check_limits, check_room, emptiest, first_off

#: What is measured, and the target per instance where none is given: KEDA's usual ones for vLLM's queue; for KV usage
#: below where vLLM preempts; requests at once as the batch at which nominal speeds are stated.
_TARGETS = {"queue": 5.0, "kv": 0.7, "in_flight": 16.0}


@register("scaler", "target_utilisation")
@dataclass
class TargetUtilisation:
    """Instances in proportion to a usage per instance against its target, slow to shrink (Kubernetes HPA, KEDA).

    ``wanted = ceil(ready * usage / target)``, ``usage`` the mean over the ready instances, unless it is within
    ``tolerance`` of the target; growth at once, but at most to twice or by 4 at a time; shrinking to the largest wanted
    of the last ``stabilisation_s``. State: those wanted counts. Slots are taken in the pool's order, as a Deployment
    that does not know unlike cards would.

    Source: Kubernetes' documentation, "Horizontal Pod Autoscaling" (algorithm details, default behaviour). Simplified:
    instances that boot count as none instead of as idle ones, and missing metrics are the last ones.
    """

    metric: str = "in_flight"
    """``queue`` (waiting requests), ``kv`` (share of KV in use) or ``in_flight`` (running and waiting requests)."""
    target: float | None = None
    """Wanted mean per instance; None: 5 for queue, 0.7 for kv, 16 for in_flight."""
    tolerance: float = 0.1
    """Nothing changes where usage over target is within this of 1."""
    stabilisation_s: float = 300.0
    """For so long the pool waits before it shrinks."""
    min_instances: int = 1
    """At least so many are up or booting."""
    max_instances: int | None = None
    """None: as many as there are slots."""
    interval_s: float = 15.0
    """Seconds between reviews."""
    needs: ClassVar[frozenset[str]] = frozenset({"scrape"})
    _wanted: deque[tuple[float, int]] = field(default_factory=deque, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_limits("target_utilisation", self.min_instances, self.max_instances, self.interval_s)
        if self.metric not in _TARGETS:
            raise ConfigError(f"scaler.metric must be one of {', '.join(_TARGETS)}, not '{self.metric}'")
        if self.target is not None and not self.target > 0.0:
            raise ConfigError(f"scaler.target must be greater than 0, or null; not {self.target}")
        for name in ("tolerance", "stabilisation_s"):
            if not getattr(self, name) >= 0.0:
                raise ConfigError(f"scaler.{name} must be 0 or more, not {getattr(self, name)}")

    def check_pool(self, static: StaticView) -> None:
        """There are as many slots as are to be up."""
        check_room("target_utilisation", self.min_instances, static)

    def review(self, slots: Slots, view: ClusterView) -> Sequence[Start | Drain]:
        """Up at once, down after a while."""
        coming = int(slots.coming.sum())
        wanted = self._bounded(self._proportional(slots, view), len(slots))
        self._wanted.append((view.now_s, wanted))
        while self._wanted[0][0] < view.now_s - self.stabilisation_s:
            self._wanted.popleft()
        every = range(len(slots))
        if wanted > coming:
            return first_off(slots, every, min(wanted, max(2 * coming, coming + 4)) - coming)
        return emptiest(slots, view, every[::-1], coming - max(count for _, count in self._wanted))

    def rests(self, slots: Slots) -> bool:
        """Idle, it only ever shrinks."""
        return int(slots.coming.sum()) <= self.min_instances

    def _bounded(self, wanted: int, slots: int) -> int:
        most = slots if self.max_instances is None else min(self.max_instances, slots)
        return min(max(wanted, self.min_instances), most)

    def _proportional(self, slots: Slots, view: ClusterView) -> int:
        ready = view.available
        count = int(ready.sum())
        if not count:
            return max(int(slots.coming.sum()), 1)
        target = _TARGETS[self.metric] if self.target is None else self.target
        ratio = float(self._usage(view)[ready].mean()) / target
        if self.metric != "kv":
            # What waits at the gateway waits for an instance as well.
            ratio += slots.held / count / target
        coming = int(slots.coming.sum())
        return coming if abs(ratio - 1.0) <= self.tolerance else math.ceil(count * ratio - 1e-9)

    def _usage(self, view: ClusterView) -> Floats:
        if self.metric == "kv":
            return view.kv_usage
        waiting = view.waiting.astype(np.float64)
        return waiting if self.metric == "queue" else waiting + view.running
