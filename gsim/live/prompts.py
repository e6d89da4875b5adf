"""Prompts as token ids: what shares segments in a trace shares ids on the wire."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gsim.core import Request
from gsim.live.vocabulary import LOWEST_ID

_WORDS = 1 << 14
_ODD = np.uint64(0x9E3779B97F4A7C15)


def prompt_ids(request: Request, answered: Mapping[int, list[int]]) -> list[int]:
    """The prompt of a request; ``answered``: what servers have generated, by segment.

    Token k of a segment is the same in every prompt. A prompt without content is like no other.
    """
    content = request.content or ((-2 - request.request_id, request.prompt_tokens),)
    ids: list[int] = []
    for segment, tokens in content:
        known = answered.get(segment, [])[:tokens]
        ids += known
        if len(known) < tokens:
            ids += _ids(segment, len(known), tokens)
    return ids


def _ids(segment: int, start: int, stop: int) -> list[int]:
    """Tokens of a segment, by hashing (splitmix64): the same on every machine."""
    seed = np.uint64(segment & ((1 << 64) - 1))
    with np.errstate(over="ignore"):
        mixed = (np.arange(start, stop, dtype=np.uint64) + seed * _ODD) * _ODD
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words = (mixed ^ (mixed >> np.uint64(31))) % np.uint64(_WORDS)
    return [LOWEST_ID + int(word) for word in words.tolist()]
