"""llm-d's Workload Variant Autoscaler: one instance more or less, by the spare capacity that is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from gsim.core import ClusterView, ConfigError, Drain, Slots, Start, StaticView, register
from gsim.scaling.variants import Variant, check_limits, check_room, emptiest, first_off, variants_of


@register("scaler", "wva")
@dataclass
class Wva:
    """One instance of the cheapest variant more when little is spare, one of the dearest less when much is (llm-d WVA).

    An instance is saturated at ``kv_threshold`` of its KV or ``queue_threshold`` waiting requests. Over those that are
    not, spare is threshold less usage, on average: below ``kv_spare`` or ``queue_spare`` an instance is added, of the
    cheapest variant of which none boots. One is taken away, of the dearest variant, where the same load on one
    instance less would leave at least that much spare. Ties by name. No state.

    Source: llm-d-incubation/workload-variant-autoscaler, docs/saturation-analyzer.md (V1, its recommended thresholds).
    Simplified: usage is what was scraped last, not the largest of a minute; scale to zero and bounds per
    variant from above are left out; requests that wait at the gateway count as waiting at the instances.
    """

    kv_threshold: float = 0.8
    """Share of KV in use from which an instance is saturated."""
    queue_threshold: float = 5.0
    """Waiting requests from which an instance is saturated."""
    kv_spare: float = 0.1
    """Share of KV that is to be spare on average."""
    queue_spare: float = 3.0
    """Waiting requests that there is to be room for on average."""
    min_instances: int = 1
    """At least so many are up or booting."""
    max_instances: int | None = None
    """None: as many as there are slots."""
    min_replicas: dict[str, int] = field(default_factory=dict)
    """By card, what its variant does not shrink below (``{A800-80G: 1}``); others may go to none."""
    interval_s: float = 30.0
    """Seconds between reviews."""
    needs: ClassVar[frozenset[str]] = frozenset({"scrape"})

    def __post_init__(self) -> None:
        check_limits("wva", self.min_instances, self.max_instances, self.interval_s)
        for spare, threshold in (("kv_spare", "kv_threshold"), ("queue_spare", "queue_threshold")):
            if not 0.0 < getattr(self, spare) < getattr(self, threshold):
                raise ConfigError(
                    f"scaler.{spare} must be above 0 and below {threshold} ({getattr(self, threshold)}), "
                    f"not {getattr(self, spare)}"
                )

        for card, least in self.min_replicas.items():
            if least < 0:
                raise ConfigError(f"scaler.min_replicas.{card} must be 0 or more, not {least}")

    def check_pool(self, static: StaticView) -> None:
        """There are the slots that are to be up, and the cards that are named."""
        check_room("wva", self.min_instances, static)
        for card, least in self.min_replicas.items():
            slots = static.gpu.count(card)
            if slots == 0:
                there = ", ".join(dict.fromkeys(static.gpu))
                raise ConfigError(f"scaler.min_replicas: the pool has no card '{card}'; it has: {there}")
            if least > slots:
                raise ConfigError(
                    f"scaler.min_replicas.{card} must be at most the pool's slots with it ({slots}), not {least}"
                )

    def review(self, slots: Slots, view: ClusterView) -> Sequence[Start | Drain]:
        """At most one step."""
        coming = int(slots.coming.sum())
        most = len(slots) if self.max_instances is None else min(self.max_instances, len(slots))
        ready = view.available
        held = slots.held / max(int(ready.sum()), 1)
        waiting = view.waiting + held
        free = ready & (view.kv_usage < self.kv_threshold) & (waiting < self.queue_threshold)
        count = int(free.sum())
        kv, queue = float(view.kv_usage[free].sum()), float(waiting[free].sum())
        if coming < self.min_instances or (coming < most and self._short(count, kv, queue)):
            return self._more(slots, view)
        if coming > self.min_instances and count >= 2 and not self._short(count - 1, kv, queue):
            return self._less(slots, view)
        return ()

    def rests(self, slots: Slots) -> bool:
        """Idle, it only ever shrinks."""
        return int(slots.coming.sum()) == self.min_instances

    def _short(self, count: int, kv: float, queue: float) -> bool:
        """Whether the load, spread over so many instances, leaves too little spare."""
        if count == 0:
            return True
        return self.kv_threshold - kv / count < self.kv_spare or self.queue_threshold - queue / count < self.queue_spare

    def _more(self, slots: Slots, view: ClusterView) -> Sequence[Start | Drain]:
        booting = slots.coming & ~slots.up
        for variant in sorted(variants_of(view.static), key=_by_price):
            if not any(booting[slot] for slot in variant.slots) and any(slots.off[slot] for slot in variant.slots):
                return first_off(slots, variant.slots, 1)
        return ()

    def _less(self, slots: Slots, view: ClusterView) -> Sequence[Start | Drain]:
        for variant in sorted(variants_of(view.static), key=_by_price, reverse=True):
            if sum(bool(slots.up[slot]) for slot in variant.slots) > self.min_replicas.get(variant.name, 0):
                return emptiest(slots, view, [slot for slot in variant.slots if slots.up[slot]], 1)
        return ()


def _by_price(variant: Variant) -> tuple[float, str]:
    return variant.usd_per_hour, variant.name
