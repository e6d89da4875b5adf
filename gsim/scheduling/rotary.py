"""Running requests rotate between the card and host memory by how far they are ahead of their deadlines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from gsim.core import ConfigError, register
from gsim.core.scheduling import EngineCard, EngineRequest, EngineView, Plan


@register("scheduler", "rotary")
@dataclass
class Rotary:
    """Rotate: where the most delayed waiting request finds no KV blocks, the running ones most ahead go to the host.

    lag = time since arrival - SLO x generated / predicted tokens: what a request is behind the pace that would just
    meet its deadline. The queue is in the order of lag, which time does not change: key = arrival + SLO x share done.
    If its head does not fit, decoding requests of the least lag leave the card, while they are ahead of the head by
    more than ``ahead_s`` and the host has room; they come back through the queue. KV moves at ``link_gb_per_s`` each
    way, both ways at once; the iteration takes so much longer (nothing is hidden behind computing, and what of a
    request is still cached on the card is moved again: an upper bound of the cost).

    No state. Starvation: none, lag grows with every second that a request waits. Source: SuperInfer (Yu et al.,
    MLSys'26, arXiv 2601.20309): RotaSched's largest lag first, and its bounded blocks per rotation. Simplified: lag is
    of the end-to-end deadline instead of TTFT and TBT; transfers are not overlapped.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"prediction"})

    link_gb_per_s: float = 25.0
    """Host link per direction, in 1e9 bytes/s: PCIe 4 x16 in practice (NVLink-C2C of a GH200: 200 and more)."""
    host_gb: float = 64.0
    """Host memory for KV, in 1e9 bytes."""
    ahead_s: float = 1.0
    """By how much less a running request must lag than the waiting one to leave for it."""
    blocks_per_rotation: int = 2000
    """KV blocks that leave the card in one iteration at most."""
    patience_s: float = 60.0
    """The SLO of requests without one."""
    every_iterations: int = 5
    """Iterations between two rotations."""

    def __post_init__(self) -> None:
        for name in ("link_gb_per_s", "host_gb", "patience_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"scheduler.{name} must be greater than 0, not {getattr(self, name)}")
        if not self.ahead_s >= 0 or self.blocks_per_rotation < 1 or self.every_iterations < 1:
            raise ConfigError(
                "scheduler: ahead_s must be 0 or more, blocks_per_rotation and every_iterations 1 or more; not "
                f"{self.ahead_s}, {self.blocks_per_rotation} and {self.every_iterations}"
            )

    def queue_key(self, request: EngineRequest, card: EngineCard) -> float:
        """The time at which it should have been as far as it is: the earlier, the more it lags."""
        slo_s = request.deadline_s - request.arrival_s
        share = request.generated_tokens / request.predicted_tokens
        return request.arrival_s + min(slo_s, self.patience_s if math.isinf(slo_s) else slo_s) * share

    def plan(self, view: EngineView) -> Plan:
        """Who leaves for the head of the queue."""
        card = view.card
        moving_s = card.kv_bytes_per_token / (self.link_gb_per_s * 1e9)
        if not view.waiting:
            return Plan(host_s_per_token=moving_s)
        head = view.waiting[0]
        needed = card.blocks_of(head.prompt_tokens + head.generated_tokens) - view.free_blocks
        slots = len(view.running) + 1 - card.max_num_seqs
        due_s = self.queue_key(head, card)
        gone: list[int] = []
        blocks, room = 0, self._host_room(view)
        for request in self._most_ahead(view):
            if needed <= 0 and slots <= 0:
                break
            far_ahead = self.queue_key(request, card) - due_s > self.ahead_s
            blocks += request.blocks
            room -= request.computed_tokens
            if not far_ahead or blocks > self.blocks_per_rotation or room < 0:
                break
            gone.append(request.request_id)
            needed -= request.blocks
            slots -= 1
        return Plan(rotate=tuple(gone) if needed <= 0 and slots <= 0 else (), host_s_per_token=moving_s)

    def _most_ahead(self, view: EngineView) -> list[EngineRequest]:
        decoding = [request for request in view.running if request.generated_tokens > 0]
        return sorted(decoding, key=lambda r: (-self.queue_key(r, view.card), r.request_id))

    def _host_room(self, view: EngineView) -> float:
        """Tokens of KV that the host still takes."""
        bytes_per_token = view.card.kv_bytes_per_token
        if bytes_per_token <= 0.0:
            return math.inf
        return self.host_gb * 1e9 / bytes_per_token - sum(request.host_tokens for request in view.waiting)
