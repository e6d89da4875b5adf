"""GoodServe's rectify step: re-predict every active request's finish, move those that would miss and can be saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gsim.core import ActiveRequests, ClusterView, ConfigError, Migration, register
from gsim.core.construct import FloatOrInf
from gsim.core.view import Floats, Ints
from gsim.migration.rescue import Candidate, Targets, candidates
from gsim.migration.slots import Slots

_CHOICES = ("largest_t", "weakest", "fastest")


@register("rectifier", "risk_monitor")
@dataclass
class RiskMonitor:
    """Migrates requests that will miss their deadline to a just-good-enough instance that still makes it.

    A request is at risk when now + remaining tokens x TPOT (and, before its first token, what is left of queueing and
    prefill) lies beyond its deadline less ``margin_s``. A target qualifies when now + cost of the move (queueing there
    included) + remaining tokens x its TPOT is ``target_margin_s`` ahead of the deadline and ``min_gain_s`` better than
    staying, and few of its own requests are at risk (a strong instance that is overloaded saves nobody). Requests are
    served by earliest deadline. Ties: the earlier row, the lower instance index.
    """

    interval_s: float = 0.25
    """Seconds between two reviews (the experiment ``monitor_interval`` chose it)."""
    margin_s: float = 0.0
    """Act when the predicted finish is later than the deadline less this (negative: wait until it is that late)."""
    target_margin_s: float = 0.5
    """A target must make the deadline with this to spare: estimates err, and requests must not wander."""
    min_gain_s: float = 0.5
    """A target must finish the request at least this much earlier than staying would."""
    max_moves: int = 2
    """Migrations per request."""
    max_inflight: int = 4
    """Migrations that an instance takes part in at a time, as source or target (and so begins in one review)."""
    no_return_s: FloatOrInf = 30.0
    """A request does not go back to the instance it came from for this long after a move (inf: never)."""
    max_target_risk: float = 0.3
    """An instance takes nobody in while more than this share of its own requests is at risk; 1: no such limit."""
    choice: str = "largest_t"
    """Which qualifying target: ``largest_t`` (latest finish that makes it), ``weakest`` (slowest card by nominal decode
    speed, then latest finish) or ``fastest`` (earliest finish)."""
    max_candidates: int = 2048
    """Requests at risk that one review weighs against targets, at most (earliest deadline first)."""
    needs: ClassVar[frozenset[str]] = frozenset({"scrape", "estimates", "prediction"})
    _slots: Slots = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.interval_s > 0:
            raise ConfigError(f"rectifier.interval_s must be greater than 0, not {self.interval_s}")
        for name in ("target_margin_s", "min_gain_s", "no_return_s"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"rectifier.{name} must be 0 or more, not {getattr(self, name)}")
        for name in ("max_moves", "max_inflight", "max_candidates"):
            if getattr(self, name) < 1:
                raise ConfigError(f"rectifier.{name} must be 1 or more, not {getattr(self, name)}")
        if not 0 <= self.max_target_risk <= 1:
            raise ConfigError(f"rectifier.max_target_risk must be in [0, 1], not {self.max_target_risk}")
        if self.choice not in _CHOICES:
            raise ConfigError(f"rectifier.choice '{self.choice}' is unknown; allowed: {', '.join(_CHOICES)}")
        self._slots = Slots(self.max_inflight)

    def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
        """The moves that save requests, given what is moving already."""
        remaining = np.maximum(active.predicted_tokens - active.generated_tokens, 1.0)
        finish_s = view.now_s + remaining * view.tpot_s[active.instance]
        _add_wait(finish_s, active, view)
        late = (finish_s > active.deadline_s - self.margin_s).nonzero()[0]
        if not len(late):
            return ()
        self._slots.refresh(active, len(view))
        targets = Targets(view, self._able(late, active.instance, view), self._slots.free.tolist())
        if not targets.open:
            return ()
        found = candidates(
            active,
            late,
            remaining,
            finish_s,
            targets,
            max_moves=self.max_moves,
            target_margin_s=self.target_margin_s,
            min_gain_s=self.min_gain_s,
            no_return_s=self.no_return_s,
        )
        return self._rescues(found[: self.max_candidates], targets, view)

    def _able(self, late: Ints, source: Ints, view: ClusterView) -> list[bool]:
        """Which instances are up and have few enough requests at risk to take in others'."""
        held = np.bincount(source, minlength=len(view))
        risky = np.bincount(source[late], minlength=len(view))
        able: list[bool] = (view.available & (risky <= self.max_target_risk * held)).tolist()
        return able

    def _rescues(self, found: list[Candidate], targets: Targets, view: ClusterView) -> list[Migration]:
        rescues: list[Migration] = []
        for request in found:
            if not targets.open:
                break
            saving = targets.saving(request)
            target = self._target(request, saving, targets, view) if saving else None
            if target is not None:
                targets.take(request.source, target)
                self._slots.take(request.request_id, request.source, target)
                rescues.append(Migration(request.request_id, target, "at risk"))
        return rescues

    def _target(self, request: Candidate, saving: list[int], targets: Targets, view: ClusterView) -> int | None:
        """Where one request goes: the just-good-enough of those that save it with its move's cost included, or None."""
        costs_s: list[float] = view.move_cost_s(request.context_tokens, request.source, np.array(saving)).tolist()
        return targets.just_enough(request, saving, costs_s, self.choice)


def _add_wait(finish_s: Floats, active: ActiveRequests, view: ClusterView) -> None:
    """Add what is left of queueing and prefill before a first token: the estimate for a request sent when this one was.

    Nothing once tokens stream. A request that has waited longer than estimated is expected to need its prefill yet.
    """
    rows = (active.generated_tokens == 0).nonzero()[0]
    if len(rows):
        source = active.instance[rows]
        prefill_s = active.prompt_tokens[rows] * view.prefill_s_per_token[source]
        due_s = active.dispatched_s[rows] + view.queue_s[source] + prefill_s
        finish_s[rows] += np.maximum(due_s - view.now_s, prefill_s)
