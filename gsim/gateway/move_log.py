"""What became of migrations: one row each."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import nan

import numpy as np

from gsim.core import Outcome
from gsim.gateway.records import Columns

COUNTERS = {
    Outcome.MOVED: "migrations",
    Outcome.REFUSED: "moves_refused",
    Outcome.GIVEN_UP: "moves_given_up",
    Outcome.ENDED: "moves_ended",
    Outcome.FELL_BACK: "moves_fell_back",
}


@dataclass(slots=True)
class Move:
    """One migration, as it went."""

    request_id: int
    source: int
    target: int
    decided_s: float
    context_tokens: int = 0
    """Prompt and generated tokens when the request stopped at the source."""
    stages: int = 0
    """Transfers made, the last included."""
    copied_bytes: float = 0.0
    carries_kv: bool = False
    """Moved by KV copy (False: by token ids)."""
    stopped_s: float = nan
    """When the request left the source."""
    submitted_s: float = nan
    """When it was queued at the target."""
    next_token_s: float = nan
    """Its first token from the target."""
    computed_tokens: int = 0
    """Tokens whose KV the source had and the target did not receive."""
    outcome: Outcome = Outcome.UNDER_WAY
    back: bool = False
    """The target is the instance that the request last came from."""


def move_columns(log: list[Move]) -> Columns:
    """The moves as columns, one per field of ``Move``."""
    return {field.name: np.array([getattr(move, field.name) for move in log]) for field in fields(Move)}
