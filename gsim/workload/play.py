"""A recorded agent run before it is replayed: turns, what each waits for, and what its prompt is made of."""

from __future__ import annotations

from hashlib import blake2b
from math import nan
from typing import NamedTuple

from gsim.core.request import Content

#: Segment ids are whole numbers of 61 bits.
SEGMENT_MASK = (1 << 61) - 1


class Wait(NamedTuple):
    """A turn starts ``delay_s`` after another turn of its play is dispatched or completed."""

    turn: int
    """Index into the play's turns; smaller than the waiting turn's own."""
    delay_s: float
    on_completion: bool = True


class Turn(NamedTuple):
    """One request of a play."""

    prompt_tokens: int
    output_tokens: int
    after: tuple[Wait, ...] = ()
    content: Content = ()
    output_segment: int = -1
    task: str = "default"
    text: str | None = None
    slo_s: float = float("inf")
    """The trace's own objective (inf: it has none)."""


class Play(NamedTuple):
    """One session as recorded."""

    arrival_s: float
    """On the trace's own clock; NaN where the trace has none."""
    turns: tuple[Turn, ...]
    row: int = 0
    """Where it starts in its file."""
    slo_s: float = float("inf")
    """The trace's own objective for the whole session (inf: it has none)."""


def single(arrival_s: float, prompt_tokens: int, output_tokens: int, row: int = 0) -> Play:
    """A play of one request that shares nothing with any other."""
    return Play(arrival_s, (Turn(prompt_tokens, output_tokens),), row)


def segment(*names: int | str) -> int:
    """A segment id for a name: equal names, equal ids; unlike names collide once in 2**61.

    Block ids that are only unique inside one session are kept apart by putting the session into the name.
    """
    return hash(tuple([_number(name) if isinstance(name, str) else name for name in names])) & SEGMENT_MASK


def _number(name: str) -> int:
    # Python's own hash of a text differs from run to run.
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")


def length(content: Content) -> int:
    """Tokens of a content."""
    return sum(tokens for _, tokens in content)


NO_CLOCK = nan
"""The arrival of a play whose trace has no clock."""
