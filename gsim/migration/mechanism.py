"""What a mechanism says about a move. It decides and it estimates; the cluster carries out."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol

from gsim.core import ConfigError
from gsim.core.view import Floats

#: A token id on the wire.
TOKEN_ID_BYTES = 4


class Step(Enum):
    """What happens next in a move."""

    COPY = "copy"
    """Copy what exists; the request keeps decoding at the source."""
    LAST = "last"
    """Stop the request at the source, copy the rest, resume it at the target."""
    GIVE_UP = "give up"
    """Leave the request where it is."""


class Quote(NamedTuple):
    """What the cost of a move depends on; arrays have one entry per target."""

    tokens: int
    """Context of the request: prompt and generated."""
    kv_bytes_per_token: float
    block_size: int
    rate_bytes_per_s: Floats
    """What the transfer gets between the source and each target."""
    latency_s: float
    queue_s: Floats
    """Queueing delay at each target."""
    prefill_s_per_token: Floats
    cached_tokens: Floats
    """Of the context, what each target has in its prefix cache."""
    source_tpot_s: float
    """Decode seconds per token at the source (state grows meanwhile)."""


class Mechanism(Protocol):
    """How the state of a request moves."""

    @property
    def carries_kv(self) -> bool:
        """Whether the KV cache arrives with the request (else the target computes it anew)."""
        ...

    @property
    def fallback(self) -> str:
        """Between unlike KV layouts: ``token_ids`` (move by token ids) or ``refuse`` (stay)."""
        ...

    def state_bytes(self, tokens: int, kv_bytes_per_token: float) -> float:
        """Bytes that ``tokens`` of context put on the wire."""
        ...

    def overhead_s(self, blocks: int) -> float:
        """Seconds of a stage that are not transfer: control messages and the cost of each of its ``blocks``."""
        ...

    def step(self, stage: int, uncopied_blocks: int) -> Step:
        """What to do with ``uncopied_blocks`` left, before stage number ``stage`` (from 0)."""
        ...

    def estimate_s(self, quote: Quote) -> Floats:
        """Estimated seconds that the request stands still, per target: to its next token there, queueing included."""
        ...


def blocks_of(tokens: int, block_size: int) -> int:
    """KV blocks that ``tokens`` occupy."""
    return -(-tokens // block_size)


def check_costs(mechanism: str, **costs: float) -> None:
    """Raise ``ConfigError`` for a cost that is negative or not finite."""
    for name, value in costs.items():
        if not 0 <= value < float("inf"):
            raise ConfigError(f"mechanism.{name} ({mechanism}) must be 0 or more, not {value}")


def check_fallback(mechanism: str, fallback: str) -> None:
    """Raise ``ConfigError`` for an unknown fallback."""
    if fallback not in ("token_ids", "refuse"):
        raise ConfigError(f"mechanism.fallback ({mechanism}) '{fallback}' is unknown; allowed: token_ids, refuse")
