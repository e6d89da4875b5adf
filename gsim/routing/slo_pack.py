"""AIBrix's SLO queue: the strongest GPUs that make it, packed or spread by pending load."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from gsim.core import HOLD, ClusterView, Completion, ConfigError, Decision, Request, register
from gsim.core.view import Bools, Floats
from gsim.routing.ledger import Ledger

Placement = Literal["pack", "least"]


@register("router", "slo_pack")
@dataclass
class SloPack:
    """Profiled latency decides which GPU types may serve a request, pending load which instance does.

    lat_i = p_i * L_in + d_i * L_out with nominal speeds; rank_i = elapsed + lat_i - SLO. Types are tried in ascending
    rank (strongest first), stopping at the first with rank > 0 (the strongest is always tried). A request occupies
    u_i = 1 / (lambda_i * lat_i) of an instance (Little's law), lambda_i = thr_i / L_out. Within a type:
    ``pack``: argmax U_i + u_i <= 1; ``least``: argmin. Where nothing has room, the request is held; held requests
    are asked in order of their least slack. Ties: the lowest index.

    State: the router's own count of pending load (S1), nominal speeds (S5), the length predictor. Source: AIBrix
    ``slo-pack-load``, ``slo-least-load-pulling`` and its SLO queue. Simplified: one queue instead of sub-queues by
    length bucket; one operating point per GPU instead of a profiled grid; lengths come from the configured predictor
    (upstream draws from a sliding histogram).
    """

    placement: Placement = "pack"
    """``pack`` fills the fullest instance that has room, ``least`` the emptiest."""
    needs: ClassVar[frozenset[str]] = frozenset({"prediction"})
    _pending: Ledger = field(default_factory=Ledger, init=False, repr=False, compare=False)
    """Sum of u over the active requests."""
    _asked: tuple[int, Floats | None] = field(default=(-1, None), init=False, repr=False, compare=False)
    """The request that was routed last, and its u per instance."""

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
        load: Floats = view.predict(request) / (view.static.nominal_tokens_per_s * profiled)
        self._asked = (request.request_id, load)
        total = self._pending.amount + load
        room = (total <= 1.0) | (view.in_flight == 0)
        room &= view.available
        room &= self._eligible(profiled, request.deadline_s - view.now_s, view.available)
        if not room.any():
            return HOLD
        room &= profiled == profiled[room].min()
        total[~room] = np.inf if self.placement == "least" else -np.inf
        return int(total.argmin() if self.placement == "least" else total.argmax())

    def _eligible(self, profiled: Floats, left_s: float, available: Bools) -> Bools:
        if not available.any():
            return available
        eligible: Bools = profiled <= max(left_s, float(profiled[available].min()))
        return eligible


def _profiled(request: Request, view: ClusterView) -> Floats:
    static = view.static
    latency: Floats = static.nominal_prefill_s_per_token * request.prompt_tokens
    latency += static.nominal_tpot_s * view.predict(request)
    return latency
