"""HexAGenT's workflow priority: who is most at risk of missing what its workflow would take alone goes first."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import ClassVar

from gsim.core import HOLD, ClusterView, Completion, ConfigError, Decision, Request, register
from gsim.core.view import Bools, Floats
from gsim.routing.alone import alone_s
from gsim.routing.choice import lowest, nothing, scratch
from gsim.routing.latency import predicted_latency

#: So many sessions are kept before those that were silent for long are looked for.
_MANY = 10_000


@dataclass(slots=True)
class _Workflow:
    """One session, as far as it has shown itself."""

    horizon_s: float
    """When the calls that were seen should have ended."""
    heard_s: float
    """When one of its calls came or ended last."""
    calls: int = 0
    """How many of them have not ended."""


@register("router", "hexagent")
@dataclass
class Hexagent:
    """Holds what does not fit, releases it by risk, to the instance that is predicted to end it first.

    A workflow (session) has a *horizon* that moves on as it shows itself: from the arrival of its first call, by
    ``scale`` times t(c) = min_i (p_i L_in + d_i L_out), nominal speeds, for every call, and by the time that passes
    while no call of it is open (tools, people). The slack of a ready call is horizon - now - t(c); what is held is
    asked again by least slack. An instance has room where the tokens in flight and the call's own are at most ``fill``
    of its KV capacity, sequences below ``max_num_seqs``, and prompt tokens without a first token at most ``ahead``
    iterations' worth (``max_num_batched_tokens``), or none. Of those with room: argmin q_i + p_i L_in + d_i L_out, with
    learned speeds; none: it waits. Ties: the lowest index.

    State: tokens in flight (S1), nominal speeds (S5), learned estimates (S6), the length predictor, horizons. Source:
    HexAGenT (arXiv 2605.16637), from its abstract: an online DAG, a running estimate of the workflow's standalone
    horizon, ready calls by projected risk of missing it, placement that minds KV capacity. Simplified: prefill and
    decode are on one instance, so nothing is transferred; the queue that it orders stands at the gateway and not in
    front of each stage; calls that have not shown themselves are not forecast.
    """

    scale: float = 3.0
    """How many times its time alone a call may take (the paper's SLO scale)."""
    fill: float = 0.9
    """Share of an instance's KV capacity that tokens in flight may take, predicted outputs included, in (0, 1]."""
    ahead: float = 2.0
    """How many iterations' worth of prompts may wait at an instance; the others wait where they can be ordered."""
    forget_s: float = 3600.0
    """A session that was silent for so long may be forgotten."""
    needs: ClassVar[frozenset[str]] = frozenset({"estimates", "prediction"})
    _workflows: dict[int, _Workflow] = field(default_factory=dict, init=False, repr=False, compare=False)
    _latency: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("scale", "ahead", "forget_s"):
            if not 0 < getattr(self, name) < inf:
                raise ConfigError(f"router.{name} must be greater than 0, not {getattr(self, name)}")
        if not 0 < self.fill <= 1:
            raise ConfigError(f"router.fill must be in (0, 1], not {self.fill}")

    def queue_key(self, request: Request, view: ClusterView) -> float:
        """The latest start that keeps the horizon: horizon - t(c). The earliest is asked first."""
        takes_s = alone_s(request, view)
        workflow = self._workflows.get(request.session_id)
        if workflow is None:
            return request.arrival_s + (self.scale - 1.0) * takes_s
        return workflow.horizon_s - takes_s

    def route(self, request: Request, view: ClusterView) -> Decision:
        """An instance with room, or wait."""
        if view.now_s <= request.arrival_s and request.session_id >= 0:
            # Asked about for the first time: the workflow has shown one more call.
            self._shown(request, view)
        room = self._room(request, view)
        if not room.any():
            return HOLD
        self._latency = latency = scratch(self._latency, len(view))
        predicted_latency(view, request.prompt_tokens, view.predict(request), latency)
        return lowest(latency, room)

    def observe_completion(self, completion: Completion) -> None:
        """One of its calls has ended."""
        workflow = self._workflows.get(completion.request.session_id)
        if workflow is not None:
            workflow.calls = max(workflow.calls - 1, 0)
            workflow.heard_s = max(workflow.heard_s, completion.finished_s)

    def _shown(self, request: Request, view: ClusterView) -> None:
        now_s = request.arrival_s
        workflow = self._workflows.get(request.session_id)
        if workflow is None:
            if len(self._workflows) >= _MANY:
                self._forget(now_s)
            workflow = self._workflows[request.session_id] = _Workflow(now_s, now_s)
        elif workflow.calls == 0:
            workflow.horizon_s += now_s - workflow.heard_s
        workflow.horizon_s += self.scale * alone_s(request, view)
        workflow.heard_s = now_s
        workflow.calls += 1

    def _forget(self, now_s: float) -> None:
        kept = {k: workflow for k, workflow in self._workflows.items() if now_s - workflow.heard_s < self.forget_s}
        self._workflows = kept

    def _room(self, request: Request, view: ClusterView) -> Bools:
        static = view.static
        tokens = request.prompt_tokens + view.predict(request)
        room: Bools = view.in_flight_tokens + tokens <= self.fill * static.kv_capacity_tokens
        room &= view.in_flight < static.max_num_seqs
        waiting = view.in_flight_prefill_tokens
        room &= (waiting == 0) | (waiting + request.prompt_tokens <= self.ahead * static.max_num_batched_tokens)
        # What is too large for every rule is tried where nobody is.
        room |= view.in_flight == 0
        room &= view.available
        return room
