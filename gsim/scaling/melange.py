"""Melange: the static optimum of card counts for a mix of request sizes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gsim.core import ClusterView, Completion, ConfigError, Drain, Request, Slots, Start, StaticView, register
from gsim.scaling.allocation import cheapest_counts
from gsim.scaling.load_seen import Asked, LoadClass, LoadSeen
from gsim.scaling.variants import Variant, check_limits, check_room, least_counts, towards, variants_of

#: Each is a row of the program.
_MOST_SLICES = 1000


@dataclass(frozen=True)
class Bucket:
    """Requests of one size."""

    rate_per_s: float
    prompt_tokens: float
    output_tokens: float
    slo_s: float = math.inf
    """End-to-end objective; inf: none."""

    def __post_init__(self) -> None:
        for name in ("rate_per_s", "prompt_tokens", "output_tokens", "slo_s"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"scaler.mix: {name} must be greater than 0, not {getattr(self, name)}")


@register("scaler", "melange")
@dataclass
class Melange:
    """The cheapest instances for a mix of request sizes, each slice on one kind of card (Melange's integer program).

    Every bucket's rate is cut into ``slices``; slice s takes ``rate / (slices * most_g(bucket))`` instances of variant
    g, where ``most_g`` is the rate that an instance carries inside the objective: ``utilisation`` over the request's
    work at nominal throughput, 0 where even alone it would be late. Minimise the price over whole numbers of instances
    and whole slices. With ``mix`` it is solved once, at the first review, and the pool stays so: the static optimum.
    Without, the mix is that of the last ``window_s``, in buckets of doubling sizes, solved anew at every review. State:
    the answer, or the arrivals of the window and the last outputs of each task class.

    Source: arXiv 2404.14527 (section 5.3; 8 slices, re-solved as load changes). Simplified: throughput inside the
    objective is nominal throughput times a stated utilisation instead of a profile of every size; the paper has no
    release of routing, so any router goes with it.
    """

    mix: tuple[Bucket, ...] = ()
    """``[{rate_per_s: 20, prompt_tokens: 100, output_tokens: 300, slo_s: 6}, ...]``; empty: what was seen."""
    slices: int = 8
    """Parts that a bucket may be spread in."""
    utilisation: float = 0.6
    """Share of its nominal throughput that an instance is to carry, so that requests do not queue."""
    window_s: float = 120.0
    """The load is that of the last so many seconds."""
    min_instances: int = 1
    """At least so many are up or booting."""
    max_instances: int | None = None
    """None: as many as there are slots."""
    interval_s: float = 60.0
    """Seconds between reviews."""
    needs: ClassVar[frozenset[str]] = frozenset()
    _seen: LoadSeen = field(init=False, repr=False, compare=False)
    _static: list[int] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_limits("melange", self.min_instances, self.max_instances, self.interval_s)
        if not 1 <= self.slices <= _MOST_SLICES:
            raise ConfigError(f"scaler.slices must be from 1 to {_MOST_SLICES}, not {self.slices}")
        for name in ("utilisation", "window_s"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"scaler.{name} must be greater than 0, not {getattr(self, name)}")
        self._seen = LoadSeen(self.window_s)

    def observe_arrival(self, request: Request) -> None:
        """It may belong to the mix."""
        if not self.mix:
            self._seen.arrived(request)

    def observe_completion(self, completion: Completion) -> None:
        """Learn how long answers are."""
        if not self.mix:
            self._seen.finished(completion)

    def check_pool(self, static: StaticView) -> None:
        """There are as many slots as are to be up."""
        check_room("melange", self.min_instances, static)

    def review(self, slots: Slots, view: ClusterView) -> Sequence[Start | Drain]:
        """The steps to the optimum; none while nothing is known of the load."""
        variants = variants_of(view.static)
        if self.mix:
            self._static = self._static or self._optimum(self.mix, variants)
            counts = self._static
        elif self._seen.knows_outputs:
            counts = self._optimum(self._observed(view.now_s), variants)
        else:
            return ()
        counts = least_counts(variants, counts, self.min_instances)
        return towards(counts, variants, slots, view, self.max_instances)

    def _observed(self, now_s: float) -> list[Bucket]:
        """The load of the window in buckets of doubling sizes."""
        found = self._seen.classes(now_s, _size)
        return [_bucket(kind, load) for kind, load in found.items()]

    def _optimum(self, buckets: Sequence[Bucket], variants: Sequence[Variant]) -> list[int]:
        rows = [[self._instances(bucket, variant) / self.slices for variant in variants] for bucket in buckets]
        loads = np.repeat(np.array(rows, dtype=np.float64).reshape(-1, len(variants)), self.slices, axis=0)
        prices = [one.usd_per_hour for one in variants]
        slots = [len(one.slots) for one in variants]
        return cheapest_counts(loads, prices, slots, most=self.max_instances, whole=True)

    def _instances(self, bucket: Bucket, variant: Variant) -> float:
        """Instances of a variant that a bucket takes up; inf where the card is too slow for its objective."""
        if variant.alone_s(bucket.prompt_tokens, bucket.output_tokens) > bucket.slo_s:
            return math.inf
        return bucket.rate_per_s * variant.work_s(bucket.prompt_tokens, bucket.output_tokens) / self.utilisation


def _size(asked: Asked) -> tuple[int, int, float]:
    return round(math.log2(asked.prompt_tokens)), round(math.log2(asked.output_tokens)), asked.slo_s


def _bucket(kind: Hashable, load: LoadClass) -> Bucket:
    assert isinstance(kind, tuple)
    return Bucket(load.rate_per_s, load.prompt_tokens, load.output_tokens, float(kind[2]))
