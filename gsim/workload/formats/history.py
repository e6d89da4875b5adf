"""What the prompt of a turn shares with the turns before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gsim.core.content import head
from gsim.core.request import Content
from gsim.workload.play import SEGMENT_MASK, Turn, length


def continued(before: Turn, tokens: int, fresh: int) -> Content:
    """A prompt of ``tokens`` tokens after the turn ``before``, where the trace names no blocks.

    Long enough to hold the previous prompt and its output, it continues both; only long enough for the prompt, it
    continues that (reasoning is often dropped from the history); shorter, it shares
    nothing. ``fresh`` names what is new.
    """
    for history in ((*before.content, (before.output_segment, before.output_tokens)), before.content):
        known = length(history)
        if history and known <= tokens:
            return (*history, (fresh, tokens - known)) if known < tokens else history
    return ((fresh, tokens),)


def reused(turns: Sequence[Turn], prefix_tokens: int, tokens: int, fresh: int) -> Content:
    """A prompt of which the trace says that ``prefix_tokens`` were sent before in the session.

    They are the head of the latest prompt (with its output) that is long enough, else of the longest.
    """
    best: Content = ()
    most = 0
    for turn in reversed(turns):
        if prefix_tokens <= most:
            break
        history = (*turn.content, (turn.output_segment, turn.output_tokens))
        if length(history) > most:
            best, most = history, length(history)
    kept = head(best, min(prefix_tokens, tokens))
    rest = tokens - length(kept)
    return (*kept, (fresh, rest)) if rest else kept


def block_content(
    ids: Sequence[int], tokens: int, block_size: int, name: Callable[[int], int] = lambda block: block & SEGMENT_MASK
) -> Content:
    """``tokens`` tokens in blocks of those ids; the last may be partly filled. The ids must cover the tokens.

    Files number their blocks as they come, so most ids follow one another: each longest run of consecutive ids becomes
    one piece, whose segment is the ``name`` of its first id. Two prompts share as many tokens as if every block were a
    piece of its own: up to where their ids part, the longest runs are the same, and there they differ in their length
    or in their first id.
    """
    pieces: list[tuple[int, int]] = []
    first = expected = ids[0]
    for block in ids:
        if block != expected:
            pieces.append((name(first), (expected - first) * block_size))
            first = expected = block
        expected += 1
    before = (len(ids) - (expected - first)) * block_size
    return (*pieces, (name(first), tokens - before))
