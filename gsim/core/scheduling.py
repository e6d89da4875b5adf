"""Scheduling inside an engine: what a policy of its queue, admission and preemption sees, and what it may answer.

An engine knows its own requests: when they came, how long their prompts are, what it has generated for them so far, and
what the gateway predicted and sent along (``Forecast``). It does not know how long they will become: the true length is
on ``Job``, and no type here holds one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

#: The probabilities at which a predicted distribution of lengths is told: in the middle of ten equal parts, so that the
#: ten lengths are equally likely.
QUANTILES = (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)


class Forecast(NamedTuple):
    """What a gateway predicts of a request and sends along with it: output tokens that are to come on this instance."""

    tokens: float
    """The mean (the view's ``predict``)."""
    quantiles: tuple[float, ...] = ()
    """The lengths at ``QUANTILES``, ascending; empty: the predictor gives no distribution, or nobody asked for one."""


class EngineRequest(NamedTuple):
    """One request as its engine sees it."""

    request_id: int
    arrival_s: float
    """When it reached the gateway."""
    submitted_s: float
    """When it reached this engine."""
    deadline_s: float
    """Absolute; ``inf`` where the client named none."""
    priority: int
    task: str
    prompt_tokens: int
    """After a move: with the tokens that it had generated before."""
    max_output_tokens: int
    computed_tokens: int
    """Tokens whose KV exists on the card (0 while it waits)."""
    host_tokens: int
    """Leading tokens whose KV is kept off the card, or arrived with it, and comes back without being computed."""
    generated_tokens: int
    """Output tokens so far, on this engine."""
    blocks: int
    """KV blocks that it holds."""
    preemptions: int
    forecast: Forecast | None = None
    """None: nothing was sent along."""

    @property
    def predicted_tokens(self) -> float:
        """Output tokens in all on this engine: the forecast's mean, or a quarter beyond what there is once that is
        more; without a forecast the client's ``max_tokens``."""
        expected = float(self.max_output_tokens) if self.forecast is None else self.forecast.tokens
        generated = self.generated_tokens
        return expected if expected >= generated + 1 else generated + max(1.0, 0.25 * generated)

    @property
    def remaining_tokens(self) -> float:
        """Output tokens that are still expected (1 or more)."""
        return self.predicted_tokens - self.generated_tokens

    @property
    def prefill_tokens(self) -> int:
        """Tokens to be computed before its next output token (of a decoding request: 1)."""
        return self.prompt_tokens + self.generated_tokens - max(self.computed_tokens, self.host_tokens)

    def lengths(self) -> tuple[float, ...]:
        """Equally likely totals, ascending: the forecast's quantiles beyond what was generated (at least one)."""
        generated = self.generated_tokens
        known = self.forecast.quantiles if self.forecast is not None else ()
        possible = tuple(length for length in known if length > generated)
        return possible or (self.predicted_tokens,)


@dataclass(frozen=True)
class EngineCard:
    """What does not change on an instance: its limits, and how fast it is at a reference load."""

    block_size: int
    kv_blocks: int
    max_num_seqs: int
    max_num_batched_tokens: int
    tpot_s: float
    """Seconds of an iteration that decodes ``REFERENCE_SEQUENCES`` (or what fits) of the reference context."""
    prefill_s_per_token: float
    """Prefill seconds per prompt token (one prompt of the reference context alone)."""
    decode_s: tuple[float, ...]
    """Seconds of a pure decode of 1, 2, 3 ... ``max_num_seqs`` sequences of the reference context."""
    kv_bytes_per_token: float = 0.0
    """Bytes of KV per token; 0: the engine was not told."""

    def blocks_of(self, tokens: float) -> int:
        """Blocks that hold ``tokens`` tokens."""
        return int(-(-tokens // self.block_size))

    def work_s(self, request: EngineRequest) -> float:
        """Seconds that the rest of a request takes at the reference load: prefill, then a token per iteration."""
        return request.prefill_tokens * self.prefill_s_per_token + request.remaining_tokens * self.tpot_s

    def laxity_s(self, request: EngineRequest) -> float:
        """Deadline less the work that is left: the latest time at which it can go on and be in time."""
        return request.deadline_s - self.work_s(request)


@dataclass(frozen=True)
class EngineView:
    """An engine at the beginning of an iteration."""

    now_s: float
    card: EngineCard
    running: Sequence[EngineRequest]
    """In the order of their admission."""
    waiting: Sequence[EngineRequest]
    """In the order of the queue."""
    free_blocks: int
    """Blocks that nobody holds (cached ones count as free)."""


class Plan(NamedTuple):
    """What a policy wants of the coming iterations. Empty fields: as the engine does by itself."""

    order: tuple[int, ...] = ()
    """Waiting requests (by id) in the order in which they are admitted; who is not named comes after them."""
    preempt: tuple[int, ...] = ()
    """Running requests that go back to the queue now; their KV is dropped."""
    rotate: tuple[int, ...] = ()
    """Running requests that go back to the queue now; their KV goes to the host and comes back with them."""
    pause: tuple[int, ...] = ()
    """Running requests that compute nothing until the next plan and keep their KV."""
    max_running: int | None = None
    """Nobody is admitted beyond so many running requests."""
    speed: float = 1.0
    """The card's speed until the next plan, in (0, 1]: an iteration takes 1 / ``speed`` of its time."""
    power: float = 1.0
    """What the card draws above its idle power until the next plan, as a share of what it draws at full speed."""
    host_s_per_token: float = 0.0
    """Seconds per token that goes to the host or comes back. The iteration takes so much longer; both ways at once."""


class EnginePolicy(Protocol):
    """The order of an engine's waiting queue. A dataclass registered in the group ``scheduler``.

    It also decides who is preempted where KV blocks run out: of the running requests the one that would be last in the
    queue (``fcfs``: the last admitted). A class attribute ``needs``, a set of names, says what shall be sent along with
    requests: ``prediction`` (the mean), ``quantiles`` (the distribution too, where the predictor gives one).
    """

    def queue_key(self, request: EngineRequest, card: EngineCard) -> float:
        """Smallest first, then by submission. Asked once when a request is queued, and again when it is preempted."""
        ...


@runtime_checkable
class AdmissionControl(Protocol):
    """A policy that also says whether the head of the queue may start. It is asked in every iteration in which there is
    one and it fits; where nobody runs, the head starts whatever it says."""

    def admits(self, request: EngineRequest, view: EngineView) -> bool: ...


@runtime_checkable
class IterationPlanner(Protocol):
    """A policy that plans iterations: who is preempted, paused, rotated to the host, admitted first."""

    @property
    def every_iterations(self) -> int:
        """Iterations from one plan to the next (1 or more)."""
        ...

    def plan(self, view: EngineView) -> Plan: ...


@runtime_checkable
class ServiceLearner(Protocol):
    """A policy that is told of every request that has finished on its engine."""

    def finished(self, request: EngineRequest) -> None: ...
