"""AIBrix's SLO queue: the strongest GPUs that make it, packed or spread by pending load."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from gsim.core import HOLD, ClusterView, Completion, ConfigError, Decision, Request, register
from gsim.core.view import Bools, Floats
from gsim.routing.choice import nothing
from gsim.routing.ledger import Ledger

Placement = Literal["pack", "least"]
_REFERENCE_SEQUENCES = 16
"""Of ``StaticView.nominal_tpot_s``."""
_FULL_SEQUENCES = 64
"""Of ``StaticView.nominal_tokens_per_s``."""


@register("router", "slo_pack")
@dataclass
class SloPack:
    """Profiled latency decides which GPU types may serve a request, pending load which instance does.

    lat_i(b) = p_i * L_in + (a_i + s_i * b) * L_out, the line through the two nominal operating points (16 and 64
    sequences). Types are tried in ascending rank_i = elapsed + lat_i(16) - SLO (strongest first), stopping at the first
    with rank > 0 (the strongest is always tried). A request occupies u_i = 1 / b_i of an instance, b_i the largest
    number pending at which lat_i(b) is within its SLO. Within a type: ``pack``: argmax U_i + u_i <= 1; ``least``:
    argmin. Where nothing has room, the request is held; held requests are asked in order of their least slack. Ties:
    the lowest index.

    State: the router's own count of pending load (S1), nominal speeds (S5), the length predictor. Source: AIBrix
    ``slo-pack-load``, ``slo-least-load-pulling`` and its SLO queue, where 1 / u is the maximum pending by Little's law
    from a profiled grid. Simplified: one queue instead of sub-queues by length bucket; a line instead of the grid;
    lengths come from the configured predictor (upstream draws from a sliding histogram).
    """

    placement: Placement = "pack"
    """``pack`` fills the fullest instance that has room, ``least`` the emptiest."""
    needs: ClassVar[frozenset[str]] = frozenset({"prediction"})
    _pending: Ledger = field(default_factory=Ledger, init=False, repr=False, compare=False)
    """Sum of u over the active requests."""
    _asked: tuple[int, Floats | None] = field(default=(-1, None), init=False, repr=False, compare=False)
    """The request that was routed last, and its u per instance."""
    _slope_s: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)
    """Growth of TPOT per sequence."""

    def __post_init__(self) -> None:
        if self.placement not in ("pack", "least"):
            raise ConfigError(f"router.placement '{self.placement}' is unknown; allowed: pack, least")

    def placed(self, request: Request, instance: int) -> None:
        """A request was sent: it occupies its share."""
        asked_id, load = self._asked
        # Sent by other hands (a migration): its share is not known here, and counts as 0.
        share = float(load[instance]) if load is not None and asked_id == request.request_id else 0.0
        self._pending.add(request.request_id, instance, share)

    def observe_completion(self, completion: Completion) -> None:
        """It is over."""
        self._pending.remove(completion.request.request_id)

    def queue_key(self, request: Request, view: ClusterView) -> float:
        """Slack on the strongest GPU: the least is asked first."""
        return request.deadline_s - float(_profiled(request, view).min())

    def route(self, request: Request, view: ClusterView) -> Decision:
        """An instance of the strongest type that has room."""
        self._pending.heal(view)
        profiled = _profiled(request, view)
        load = 1.0 / self._max_pending(request, view, profiled)
        self._asked = (request.request_id, load)
        total = self._pending.amount + load
        room = (total <= 1.0 + 1e-9) | (view.in_flight == 0)
        room &= view.available
        room &= _eligible(profiled, request.deadline_s - view.now_s, view.available)
        if not room.any():
            return HOLD
        room &= profiled == profiled[room].min()
        total[~room] = np.inf if self.placement == "least" else -np.inf
        return int(total.argmin() if self.placement == "least" else total.argmax())

    def _max_pending(self, request: Request, view: ClusterView, profiled: Floats) -> Floats:
        static = view.static
        if len(self._slope_s) != len(view):
            grown_s = _FULL_SEQUENCES / static.nominal_tokens_per_s - static.nominal_tpot_s
            least_s = 1e-3 * static.nominal_tpot_s  # a card that does not slow down would have room without end
            self._slope_s = np.maximum(grown_s / (_FULL_SEQUENCES - _REFERENCE_SEQUENCES), least_s)
        spare_s = (request.slo_s - profiled) / view.predict(request)
        pending: Floats = _REFERENCE_SEQUENCES + spare_s / self._slope_s
        return np.clip(pending, 1.0, static.max_num_seqs, out=pending)


def _eligible(profiled: Floats, left_s: float, available: Bools) -> Bools:
    if not available.any():
        return available
    eligible: Bools = profiled <= max(left_s, float(profiled[available].min()))
    return eligible


def _profiled(request: Request, view: ClusterView) -> Floats:
    static = view.static
    latency: Floats = static.nominal_prefill_s_per_token * request.prompt_tokens
    latency += static.nominal_tpot_s * view.predict(request)
    return latency
