"""What a policy can see: telemetry as a struct of arrays, one NumPy array per signal over instances.

Every signal has a class and an age:

- *static*: known when the pool is set up;
- *router-local*: counted by the gateway itself, exact and fresh;
- *scraped*: read from each instance's metrics every ``telemetry.interval_s``; ``scraped_s`` says when;
- *learned*: estimated from what passed through the gateway (first tokens, streamed tokens, completions);
- *observed*: the requests in flight, one by one, as the gateway last looked at their streams.

The arrays are maintained in place. Policies read them through a view of their own (``PolicyView``), cannot write, and
never keep a reference to one across calls expecting the past. Costly signals (predictions, prefix matches, migration
costs) are functions: only the policy that calls them pays.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from gsim.core.request import Request

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: The loads at which an instance's nominal speeds are stated: so many sequences, each of so many tokens of context.
REFERENCE_SEQUENCES = 16
FULL_SEQUENCES = 64
REFERENCE_CONTEXT_TOKENS = 512


def float_cells(signal: Floats) -> MutableSequence[float]:
    """The same memory as ``signal``, for who reads and writes single numbers: quicker at that than NumPy."""
    return cast("MutableSequence[float]", signal.data)


def int_cells(signal: Ints) -> MutableSequence[int]:
    """As ``float_cells``, for whole numbers."""
    return cast("MutableSequence[int]", signal.data)


def flag_cells(signal: Bools) -> MutableSequence[bool]:
    """As ``float_cells``, for truth values."""
    return cast("MutableSequence[bool]", signal.data)


@dataclass(slots=True)
class StaticView:
    """What is known of every instance when the pool is set up (arrays of length ``n``)."""

    gpu: tuple[str, ...]
    model: tuple[str, ...]
    nominal_tpot_s: Floats
    """Decode seconds per token and sequence at a reference load (``REFERENCE_SEQUENCES``, or what fits)."""
    nominal_prefill_s_per_token: Floats
    """Prefill seconds per prompt token (one prompt of ``REFERENCE_CONTEXT_TOKENS`` alone)."""
    nominal_tokens_per_s: Floats
    """Decode throughput at a full batch (``FULL_SEQUENCES``, or what fits): a capacity weight."""
    kv_capacity_tokens: Ints
    max_num_seqs: Ints
    max_num_batched_tokens: Ints
    block_size: int
    price_per_hour: Floats
    layout: tuple[str, ...]
    """KV layout (model, dtype, tensor parallelism): KV can be copied only between equal layouts."""
    cards: Ints
    """GPUs of each instance; its price is that of all of them."""
    role: tuple[str, ...] = ()
    """``both``, ``prefill`` or ``decode`` (empty: all ``both``). Of instances that a policy cannot choose because of
    their role, ``available`` is false in its view."""

    def batch_slope_s(self) -> Floats:
        """Seconds that one more request adds to an instance's TPOT: a line through its nominal speeds (0 or more)."""
        full_s = FULL_SEQUENCES / self.nominal_tokens_per_s
        slope_s: Floats = np.maximum(full_s - self.nominal_tpot_s, 0.0) / (FULL_SEQUENCES - REFERENCE_SEQUENCES)
        return slope_s


@dataclass(slots=True)
class ClusterView:
    """The state of the pool as the gateway sees it now. All arrays have one entry per instance."""

    static: StaticView
    now_s: float = 0.0
    # --- router-local: exact ---------------------------------------------------------------------------------------
    available: Bools = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    """False while an instance is known to be down (or, because of its role, is not for the policy to choose)."""
    in_flight: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Requests dispatched and not yet finished."""
    in_flight_prefill_tokens: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Prompt tokens of those that have not shown their first token."""
    in_flight_tokens: Floats = field(default_factory=lambda: np.zeros(0))
    """Outstanding tokens: prompt plus predicted output of every request in flight (dropped when it finishes)."""
    incoming: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Requests that are to be handed over to it and have not arrived (in a pool with roles)."""
    incoming_tokens: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Prompt tokens of those."""
    # --- scraped ---------------------------------------------------------------------------------------------------
    running: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    waiting: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    kv_usage: Floats = field(default_factory=lambda: np.zeros(0))
    scraped_s: Floats = field(default_factory=lambda: np.zeros(0))
    """When each instance was last scraped successfully (-inf: never)."""
    # --- learned ---------------------------------------------------------------------------------------------------
    queue_s: Floats = field(default_factory=lambda: np.zeros(0))
    """Estimated queueing delay that a request sent now would see."""
    prefill_s_per_token: Floats = field(default_factory=lambda: np.zeros(0))
    tpot_s: Floats = field(default_factory=lambda: np.zeros(0))
    """Estimated decode seconds per output token."""
    # --- costly: computed when called --------------------------------------------------------------------------------
    predict: Callable[[Request], float] = field(default=lambda request: float(request.max_output_tokens))
    """Predicted total output tokens of the request being routed (by the configured predictor; at least 1)."""
    prefix_tokens: Callable[[Request], Ints] = field(default=lambda request: np.zeros(0, dtype=np.int64))
    """Prompt tokens that each instance probably has cached, from the gateway's own approximate prefix index."""
    move_cost_s: Callable[[int, int, Ints], Floats] = field(default=lambda tokens, source, targets: np.zeros(0))
    """Estimated seconds that a request of ``tokens`` context stands still when moved from ``source`` to each target."""
    observed: Callable[[], ActiveRequests] = field(default=lambda: ActiveRequests.none())
    """The requests in flight as they were when the gateway last observed their streams (``observed_s``), without those
    that have ended since: the very same object until there is something new to see, so that a policy can keep what it
    made of it. Who was sent since is not in it; a policy that must know is told (``Placed``)."""

    def __len__(self) -> int:
        return len(self.static.gpu)

    @classmethod
    def of(cls, static: StaticView) -> ClusterView:
        """A fresh view of an idle pool: nothing in flight, nothing scraped, nominal speeds as first estimates."""
        n = len(static.gpu)
        return cls(
            static=static,
            available=np.ones(n, dtype=np.bool_),
            in_flight=np.zeros(n, dtype=np.int64),
            in_flight_prefill_tokens=np.zeros(n, dtype=np.int64),
            in_flight_tokens=np.zeros(n),
            incoming=np.zeros(n, dtype=np.int64),
            incoming_tokens=np.zeros(n, dtype=np.int64),
            running=np.zeros(n, dtype=np.int64),
            waiting=np.zeros(n, dtype=np.int64),
            kv_usage=np.zeros(n),
            scraped_s=np.full(n, -np.inf),
            queue_s=np.zeros(n),
            prefill_s_per_token=static.nominal_prefill_s_per_token.copy(),
            tpot_s=static.nominal_tpot_s.copy(),
            prefix_tokens=lambda request: np.zeros(n, dtype=np.int64),
        )


@dataclass(frozen=True, slots=True)
class ActiveRequests:
    """Every dispatched, unfinished request, as the gateway sees it (arrays of equal length, oldest first).

    Read-only: several policies may look at the same arrays.
    """

    request_id: Ints
    instance: Ints
    prompt_tokens: Ints
    """Of the original request."""
    generated_tokens: Ints
    """Output tokens streamed so far, over all instances it was on."""
    predicted_tokens: Floats
    """Predicted total output tokens, re-predicted from what was generated."""
    arrival_s: Floats
    dispatched_s: Floats
    """When it was sent to the instance where it is now."""
    deadline_s: Floats
    moves: Ints
    """How often it was migrated."""
    moving: Bools
    """A migration of it is under way."""
    previous: Ints
    """The instance that it was on before its last move (-1: none)."""
    moved_s: Floats
    """When it last moved (-inf: never)."""
    observed_s: float = 0.0
    """When all this was so."""

    def __len__(self) -> int:
        return len(self.request_id)

    @classmethod
    def none(cls) -> ActiveRequests:
        """Nobody is in flight."""
        whole, real = np.zeros(0, dtype=np.int64), np.zeros(0)
        return cls(
            request_id=whole,
            instance=whole,
            prompt_tokens=whole,
            generated_tokens=whole,
            predicted_tokens=real,
            arrival_s=real,
            dispatched_s=real,
            deadline_s=real,
            moves=whole,
            moving=np.zeros(0, dtype=np.bool_),
            previous=whole,
            moved_s=real,
        )
