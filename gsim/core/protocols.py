"""The seams: six protocols, and the small optional ones beside them. Implementations are final dataclasses.

Nothing in routing, prediction, estimation or rectifying may assume that time is simulated or that an engine is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from gsim.core.batch import Batch
from gsim.core.decision import Decision, Drain, Migration, Start
from gsim.core.events import Completion, EngineEvent, Gauges, Progress, StreamCount
from gsim.core.request import Job, Request
from gsim.core.slots import Slots
from gsim.core.view import ActiveRequests, ClusterView, StaticView


class LatencyModel(Protocol):
    """How long iterations take on one GPU with one model. Pure: the same question has the same answer."""

    def iteration_s(self, batch: Batch) -> float:
        """Seconds of one iteration (> 0); raises ``ProfileError`` outside the profile's domain."""
        ...

    def decode_run_s(self, sequences: int, context_tokens: int, max_context_tokens: int, iterations: int) -> float:
        """Seconds of ``iterations`` pure-decode iterations in a row: exactly the sum of that many ``iteration_s``.

        ``context_tokens`` is the sum over sequences, ``max_context_tokens`` the longest, both before the first
        iteration; every iteration adds one token to each sequence.
        """
        ...

    def decode_run_iterations(self, sequences: int, context_tokens: int, max_context_tokens: int, span_s: float) -> int:
        """The largest number of iterations whose ``decode_run_s`` is at most ``span_s``."""
        ...


class Engine(Protocol):
    """One serving engine: a state machine in simulated time, no event loop inside."""

    def submit(self, job: Job, now_s: float, kv_tokens: int = 0, ticket: object = None) -> None:
        """Queue a job. ``kv_tokens``: leading tokens whose KV arrives with it (copied from another instance).

        ``ticket``: anything; what is told of the request brings it back, so that who submitted it knows it at once.
        """
        ...

    def prefill(self, job: Job, now_s: float, ticket: object = None) -> None:
        """Queue a job of which this instance computes the prompt and the first token, and keeps the KV cache.

        It ends with ``PREFILLED`` (``FINISHED`` where the first token is the last one); its blocks are held until
        ``release``. Until then it is a request as any other (``abort`` takes it out).
        """
        ...

    def release(self, request_id: int, now_s: float) -> None:
        """The KV cache of a prefilled request is not needed any more; ``KeyError`` if there is none.

        Its blocks return at the next iteration boundary, as those of a request that is aborted.
        """
        ...

    def abort(self, request_id: int, now_s: float) -> Progress:
        """Take a request out (its blocks return at the next iteration boundary); ``KeyError`` if it is not here."""
        ...

    def next_event_s(self) -> float:
        """When the next event happens if nobody interferes; ``inf`` when idle."""
        ...

    def next_token_s(self, after_s: float) -> float:
        """When the first iteration that ends after ``after_s`` ends, if nobody interferes; ``inf`` when idle.

        Where that depends on a step that is not formed yet: just after its beginning (ask again then). This is what
        whoever streams tokens one by one waits for; ``next_event_s`` is what an observer of requests waits for.
        """
        ...

    def advance(self, to_s: float) -> list[EngineEvent]:
        """Run up to and including ``to_s``; the events since the last call, in time order."""
        ...

    def gauges(self, now_s: float) -> Gauges:
        """What a scraper would read at ``now_s`` (which does not disturb the engine)."""
        ...

    def progress(self, now_s: float) -> tuple[list[int], list[int]]:
        """Request ids on this engine and output tokens of each by ``now_s``."""
        ...

    def streams(self, now_s: float) -> tuple[int, list[StreamCount]]:
        """The decode clock by ``now_s``, and every count whose rule changed since the last call (first: every count).

        The cost is that of what changed, not of what is here: one observer, who keeps what it was told.
        """
        ...

    def set_speed(self, factor: float, now_s: float) -> None:
        """From the next iteration on, iterations take ``1 / factor`` of their normal time (1.0: as profiled)."""
        ...

    def busy_s(self, now_s: float) -> float:
        """Seconds spent in iterations up to ``now_s``."""
        ...

    def power_s(self, now_s: float) -> float:
        """The same, each weighted by the share of full power above idle that the card drew in it: less than ``busy_s``
        where a policy of the queue slows the card."""
        ...


@runtime_checkable
class Counting(Protocol):
    """An engine that counts more than every engine does; the names become columns of results."""

    def counts(self) -> dict[str, int]: ...


class Router(Protocol):
    """Where a request goes. Values in, an index out; ties broken by a stated rule."""

    def route(self, request: Request, view: ClusterView) -> Decision: ...


@runtime_checkable
class Randomised(Protocol):
    """A policy that draws random numbers: it is handed its own named stream before the run."""

    def seed(self, rng: np.random.Generator) -> None: ...


@runtime_checkable
class Learner(Protocol):
    """A policy that learns from finished requests."""

    def observe_completion(self, completion: Completion) -> None: ...


@runtime_checkable
class ArrivalObserver(Protocol):
    """A scaler that is told of every request when it arrives (``arrival_s`` is now), before it is routed."""

    def observe_arrival(self, request: Request) -> None: ...


@runtime_checkable
class Placed(Protocol):
    """A policy that wants to know where a request was really sent (also by other hands: migrations, retries)."""

    def placed(self, request: Request, instance: int) -> None: ...


@runtime_checkable
class QueueOrder(Protocol):
    """A router that holds requests and says in which order they are asked again (smallest key first)."""

    def queue_key(self, request: Request, view: ClusterView) -> float: ...


class Handover(Protocol):
    """Where a request goes on whose prompt was computed on one instance, in a pool with roles."""

    def next(self, request: Request, source: int, view: ClusterView) -> Decision:
        """The instance for its decode leg, HOLD (asked again when something changes) or REJECT.

        ``source`` computed the prompt (or is about to, where both are chosen at arrival); ``view.available`` is true
        for what is up, takes decode legs and is large enough.
        """
        ...


@runtime_checkable
class Splitting(Protocol):
    """A handover policy that also hands requests over which an instance of role ``both`` could serve to their end."""

    def splits(self, request: Request, instance: int, view: ClusterView) -> bool:
        """Whether only the prompt is to be computed on ``instance``, to which the router sends the request."""
        ...


class Predictor(Protocol):
    """Output length, from what a client reveals."""

    def predict(self, request: Request, generated_tokens: int = 0) -> float:
        """Expected total output tokens (> ``generated_tokens``); re-asked as tokens appear."""
        ...

    def observe(self, request: Request, output_tokens: int) -> None:
        """Learn from a finished request."""
        ...


@runtime_checkable
class BatchPredictor(Protocol):
    """A predictor that can re-predict many requests at once (the monitor asks for all active ones)."""

    def repredict(self, requests: Sequence[Request], generated_tokens: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Predicted totals for requests whose first prediction was ``first``; arrays of equal length."""
        ...


@runtime_checkable
class QuantilePredictor(Protocol):
    """A predictor that also gives a distribution of the output length."""

    def predict_quantiles(self, request: Request, generated_tokens: int = 0) -> Sequence[float]:
        """Total output tokens at each of the probabilities ``QUANTILES`` (gsim.core.scheduling), never falling, each
        above ``generated_tokens``: equally likely lengths, given that so many tokens have been generated."""
        ...


@runtime_checkable
class Oracle(Protocol):
    """A *declared* oracle: it is shown the truth. Only predictors and the optimum's plan may be one."""

    def reveal(self, job: Job) -> None: ...


class Estimator(Protocol):
    """Black-box estimates per instance, written into the learned signals of the view."""

    def attach(self, view: ClusterView) -> None:
        """Take a view's learned arrays over; they are written in place from then on."""
        ...

    def dispatched(self, instance: int, request: Request, now_s: float) -> None: ...

    def first_token(
        self, instance: int, request: Request, dispatched_s: float, now_s: float, cached_tokens: int = 0
    ) -> None:
        """``cached_tokens``: of its prompt, what was not computed there: it came out of the instance's prefix cache, or
        with the request when it was moved (0: none, or nobody said)."""
        ...

    def streamed(self, instance: int, tokens: int, span_s: float, now_s: float) -> None:
        """``tokens`` output tokens of one request arrived over ``span_s`` seconds on ``instance``."""
        ...

    def finished(self, completion: Completion) -> None: ...

    def refresh(self, now_s: float) -> None:
        """Time has passed: apply idle decay and staleness. At intervals while requests are in flight, at once else."""
        ...


class Rectifier(Protocol):
    """Who moves, when."""

    @property
    def interval_s(self) -> float:
        """Seconds between two reviews (``inf``: never)."""
        ...

    def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]: ...


class Scaler(Protocol):
    """How many instances are up, and in which slots."""

    @property
    def interval_s(self) -> float:
        """Seconds between two reviews (``inf``: never)."""
        ...

    def review(self, slots: Slots, view: ClusterView) -> Sequence[Start | Drain]:
        """What starts and what stops now; at least one instance that can be sent to must be left."""
        ...


@runtime_checkable
class PoolChecker(Protocol):
    """A scaler that refuses a pool in which it cannot do what it is told to, before the clock starts."""

    def check_pool(self, static: StaticView) -> None:
        """Raises ``ConfigError`` that names the field, its value and what the pool has; ``static`` has every slot."""
        ...


@runtime_checkable
class Resting(Protocol):
    """A scaler that need not be asked while nothing is in flight; others are, since they may see a load coming."""

    def rests(self, slots: Slots) -> bool:
        """Whether every review would change nothing until something arrives."""
        ...
