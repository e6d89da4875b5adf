"""Supply and demand of feasible requests: what is asked in time, against the cards that are fast enough for it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gsim.core import ClusterView, Completion, ConfigError, Drain, Request, Slots, Start, StaticView, register
from gsim.scaling.allocation import cheapest_counts
from gsim.scaling.load_seen import Asked, LoadSeen
from gsim.scaling.variants import Variant, check_limits, check_room, least_counts, most_counts, towards, variants_of


@register("scaler", "feasible_supply")
@dataclass
class FeasibleSupply:
    """The cheapest instances whose feasible work covers what is asked: supply and demand by who can be in time where.

    GoodServe sends a request to the slowest instance that is still fast enough. So the requests of the last
    ``window_s`` are put into classes by the variants that would be in time for them (``slack`` times their time alone,
    with the outputs that their task had last, within the objective); one that nobody can serve in time is no demand. A
    class may be spread over its variants in any shares; the work of what goes to a variant is to fit into
    ``utilisation`` of its instances; the price is the least possible (integer program). Growth at once; a variant
    shrinks to its largest number of the last ``stabilisation_s``. State: arrivals of the window, last outputs by task,
    those numbers.

    gsim's own: it differs from ``melange`` in that deadlines, not sizes, make the classes, and shares are free.
    """

    slack: float = 1.3
    """A request takes so many times as long as alone, in a batch with others."""
    utilisation: float = 0.6
    """Share of its nominal throughput that an instance is to carry, so that requests do not queue."""
    window_s: float = 60.0
    """The load is that of the last so many seconds."""
    stabilisation_s: float = 180.0
    """For so long a variant waits before it shrinks."""
    min_instances: int = 1
    """At least so many are up or booting."""
    max_instances: int | None = None
    """None: as many as there are slots."""
    interval_s: float = 15.0
    """Seconds between reviews."""
    needs: ClassVar[frozenset[str]] = frozenset()
    _seen: LoadSeen = field(init=False, repr=False, compare=False)
    _wanted: deque[tuple[float, list[int]]] = field(default_factory=deque, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_limits("feasible_supply", self.min_instances, self.max_instances, self.interval_s)
        for name in ("slack", "utilisation", "window_s"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"scaler.{name} must be greater than 0, not {getattr(self, name)}")
        if not self.stabilisation_s >= 0.0:
            raise ConfigError(f"scaler.stabilisation_s must be 0 or more, not {self.stabilisation_s}")
        self._seen = LoadSeen(self.window_s)

    def observe_arrival(self, request: Request) -> None:
        """It is demand."""
        self._seen.arrived(request)

    def observe_completion(self, completion: Completion) -> None:
        """Learn how long answers are."""
        self._seen.finished(completion)

    def check_pool(self, static: StaticView) -> None:
        """There are as many slots as are to be up."""
        check_room("feasible_supply", self.min_instances, static)

    def review(self, slots: Slots, view: ClusterView) -> Sequence[Start | Drain]:
        """Up at once, down after a while; nothing before the first request has finished."""
        if not self._seen.knows_outputs:
            return ()
        variants = variants_of(view.static)
        counts = self._covering(view.now_s, variants)
        self._wanted.append((view.now_s, least_counts(variants, counts, self.min_instances)))
        while self._wanted[0][0] < view.now_s - self.stabilisation_s:
            self._wanted.popleft()
        held = [max(one[g] for _, one in self._wanted) for g in range(len(variants))]
        held = most_counts(held, self._wanted[-1][1], self.max_instances)
        return towards(held, variants, slots, view, self.max_instances)

    def _covering(self, now_s: float, variants: Sequence[Variant]) -> list[int]:
        """The cheapest counts that cover the demand of the window."""

        def able(asked: Asked) -> tuple[bool, ...]:
            alone = (one.alone_s(asked.prompt_tokens, asked.output_tokens) for one in variants)
            return tuple(self.slack * alone_s <= asked.slo_s for alone_s in alone)

        rows = []
        for kind, load in self._seen.classes(now_s, able).items():
            assert isinstance(kind, tuple)
            work = (load.rate_per_s * one.work_s(load.prompt_tokens, load.output_tokens) for one in variants)
            rows.append([w / self.utilisation if fast else math.inf for w, fast in zip(work, kind, strict=True)])
        loads = np.array(rows, dtype=np.float64).reshape(-1, len(variants))
        prices, slots = [one.usd_per_hour for one in variants], [len(one.slots) for one in variants]
        return cheapest_counts(loads, prices, slots, most=self.max_instances)
