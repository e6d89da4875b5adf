"""Earliest deadline first, at the gateway."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gsim.core import HOLD, REJECT, ClusterView, ConfigError, Decision, Request, register
from gsim.core.view import Floats
from gsim.routing.alone import alone_s
from gsim.routing.choice import lowest, nothing, scratch


@register("router", "edf")
@dataclass
class Edf:
    """Holds what does not fit, and releases it by earliest deadline to argmin (F_i + 1) / thr_i with F_i < limit_i.

    limit_i = min(``max_in_flight``, max_num_seqs_i). The queue stands at the gateway, where it can be ordered, instead
    of inside the engines, where it cannot. Ties: the lowest index.

    State: in-flight counts (S1), nominal speed (S5), the length predictor for ``drop_late``. Source: the classic
    policy (Liu and Layland 1973); llm-d's flow control orders by deadline in the same place. Simplified: no priority
    bands.
    """

    max_in_flight: int = 128
    """Requests that an instance is sent at a time, at most."""
    drop_late: bool = False
    """Reject what can no longer make its deadline, even alone on the fastest instance, instead of serving it late: the
    earliest deadline first serves the hopeless first, and in overload everybody is late in turn."""
    needs: ClassVar[frozenset[str]] = frozenset({"prediction"})
    _scores: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.max_in_flight < 1:
            raise ConfigError(f"router.max_in_flight must be 1 or more, not {self.max_in_flight}")

    def queue_key(self, request: Request, view: ClusterView) -> float:
        """The deadline: the earliest is asked first."""
        return request.deadline_s

    def route(self, request: Request, view: ClusterView) -> Decision:
        """An instance with room, or wait."""
        if self.drop_late and view.now_s + alone_s(request, view) > request.deadline_s:
            return REJECT
        room = view.in_flight < np.minimum(view.static.max_num_seqs, self.max_in_flight)
        room &= view.available
        if not room.any():
            return HOLD
        self._scores = scores = scratch(self._scores, len(view))
        np.add(view.in_flight, 1.0, out=scores)
        scores /= view.static.nominal_tokens_per_s
        return lowest(scores, room)
