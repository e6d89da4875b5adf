"""How long answers are: what a request says, else a distribution by task, else what it allows."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gsim.live.bodies import Asked, BodyError

#: Headers that a client may send: output tokens; or the length of prompt and output together, at which the answer ends
#: by itself, wherever it is continued; the task class.
OUTPUT_TOKENS, EOS_AT, TASK = "x-gsim-output-tokens", "x-gsim-eos-at", "x-task"
OTHER = "other"
_REMEMBERED = 100_000


@dataclass
class AnswerLengths:
    """Where each answer ends by itself.

    ``by_task``: per task class (``other``: for all others) the shortest and the longest answer in tokens, drawn
    uniformly. A request that comes with an ``x-request-id`` ends at one place, wherever and however often it is sent.
    """

    by_task: Mapping[str, Sequence[int]] = field(default_factory=dict)
    seed: int = 0
    _ends: OrderedDict[str, int] = field(default_factory=OrderedDict)

    def output_tokens(self, asked: Asked, headers: Mapping[str, str], prompt_tokens: int, most: int) -> int:
        """Tokens that are generated for a prompt, at most ``most``; raises ``BodyError`` for a header that is none."""
        if asked.ignore_eos:
            return most
        given = _header(headers, OUTPUT_TOKENS)
        ends_at = _header(headers, EOS_AT)
        if given is None and ends_at is not None:
            given = ends_at - prompt_tokens
        if given is None:
            given = self._drawn(headers, prompt_tokens)
        if given is None:
            return most
        return max(min(given, most), asked.min_tokens, 1)

    def _drawn(self, headers: Mapping[str, str], prompt_tokens: int) -> int | None:
        span = self.by_task.get(headers.get(TASK, OTHER), self.by_task.get(OTHER))
        if span is None:
            return None
        name = headers.get("x-request-id", "")
        if name in self._ends:
            return self._ends[name] - prompt_tokens
        key = zlib.crc32(name.encode()) if name else len(self._ends)
        tokens = int(np.random.default_rng([self.seed, key]).integers(span[0], span[1] + 1))
        self._ends[name or f"-{key}"] = prompt_tokens + tokens
        if len(self._ends) > _REMEMBERED:
            self._ends.popitem(last=False)
        return tokens


def _header(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(name)
    if text is None:
        return None
    if not text.isdecimal() or not 0 < int(text) < 1 << 31:
        raise BodyError(f"{name} must be a whole number above 0, not '{text[:40]}'", name)
    return int(text)
