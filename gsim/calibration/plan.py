"""What to measure: a grid of iterations inside the server's limits, and points between them that judge the fit."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from gsim.calibration.options import MeasureOptions
from gsim.calibration.server import ServerFacts
from gsim.core.errors import ConfigError
from gsim.core.options import require
from gsim.core.streams import Streams

Kind = Literal["prefill", "decode", "mixed"]

#: Share of the KV cache that the measurements may fill: a preemption in the middle would spoil them.
KV_SHARE = 0.9


@dataclass(frozen=True, order=True)
class Point:
    """One iteration to time: a chunk on its cached context, a batch of decodes, or both at once."""

    kind: Kind
    sequences: int
    """Decoding sequences (0 in a prefill)."""
    context_tokens: int
    """Context of each decoding sequence; in a prefill, of the chunk."""
    chunk_tokens: int
    """Prompt tokens that are prefilled (0 in a decode)."""
    check: bool = False
    """A point between the grid's: never fitted, it judges the fit."""

    @property
    def key(self) -> str:
        """The point's name in raw files."""
        return f"{self.kind}-b{self.sequences}-c{self.context_tokens}-p{self.chunk_tokens}"


def doubling(low: int, high: int, factor: int = 2) -> list[int]:
    """``low``, ``factor * low`` ... and ``high`` itself."""
    values = []
    value = low
    while value < high:
        values.append(value)
        value *= factor
    return [*values, high] if high >= 1 else []


def lead_tokens(point: Point, facts: ServerFacts) -> int:
    """Output tokens that a decoding sequence can have made before the last one of its batch has its first."""
    prompt = max(2, point.context_tokens)
    # A token budget's worth of prompt per iteration; and prompts that trickle in one by one.
    return -(-point.sequences * prompt // facts.max_num_batched_tokens) + 4 + point.sequences


class Planner:
    """Chooses the points that fit a server's limits and a person's."""

    def __init__(self, options: MeasureOptions, facts: ServerFacts) -> None:
        self.options = options
        self.facts = facts
        longest = facts.max_model_len
        if options.max_context_tokens is not None:
            longest = min(longest, options.max_context_tokens)
        self.longest = longest
        require(longest >= 64, "max_context_tokens", longest, "at least 64")

    def points(self) -> list[Point]:
        """The grid and the check points; raises ``ConfigError`` when an explicit grid does not fit."""
        chunks, contexts = self.chunks(), self.prefill_contexts()
        batches, decode_contexts = self.batches(), self.decode_contexts()
        prefill = [Point("prefill", 0, context, chunk) for context in contexts for chunk in chunks]
        decode = [Point("decode", batch, context, 0) for batch in batches for context in decode_contexts]
        few = [chunk for chunk in chunks if chunk >= 32][::2]
        middle = decode_contexts[len(decode_contexts) // 2]
        # Every chunk at the middle context, and the middle chunk at the shortest and the longest one: what a chunk adds
        # to reading KV is told apart from what it adds to any decode.
        mixed = [
            Point("mixed", batch, context, chunk)
            for batch in sorted({batches[len(batches) // 2], batches[-1]})
            for context in sorted({decode_contexts[0], middle, decode_contexts[-1]})
            for chunk in (few if context == middle else few[len(few) // 2 :][:1])
        ]
        points = [point for point in (*prefill, *decode, *mixed) if self.fits(point)]
        if not any(point.kind == "prefill" for point in points) or not any(point.kind == "decode" for point in points):
            raise ConfigError("no prefill or no decode of this grid fits the server's limits")
        return points + self._checks(points)

    def chunks(self) -> list[int]:
        """Chunk lengths of the grid."""
        most = min(self.facts.max_num_batched_tokens, self.longest - 1)
        return self._inside("prefill_tokens", self.options.prefill_tokens or doubling(16, most), most)

    def prefill_contexts(self) -> list[int]:
        """Cached contexts, in whole blocks; only 0 where the server caches no prefixes."""
        if not self.facts.prefix_caching:
            return [0]
        most = self.longest - 17
        asked = self.options.prefill_contexts or [0, *doubling(256, most, 4)]
        block = self.facts.block_size
        return sorted({value // block * block for value in self._inside("prefill_contexts", asked, most)})

    def batches(self) -> list[int]:
        """Batch sizes of the grid."""
        most = min(self.options.max_concurrency, self.facts.max_num_seqs)
        return self._inside("decode_batches", self.options.decode_batches or doubling(1, most), most)

    def decode_contexts(self) -> list[int]:
        """Contexts of decodes; the longest leaves room for the tokens that are timed."""
        single = Point("decode", 1, self.longest, 0)
        most = self.longest - lead_tokens(single, self.facts) - self.options.window_tokens
        return self._inside("decode_contexts", self.options.decode_contexts or doubling(64, most, 4), most)

    def fits(self, point: Point) -> bool:
        """True when the server can run the point without preemption and in one iteration."""
        facts = self.facts
        tokens = point.context_tokens + lead_tokens(point, facts) + self.output_tokens(point)
        if point.kind == "prefill":
            return point.context_tokens + point.chunk_tokens < self.longest
        blocks = point.sequences * -(-tokens // facts.block_size) + -(-point.chunk_tokens // facts.block_size)
        return (
            tokens <= self.longest
            and point.sequences + (point.chunk_tokens > 0) <= min(self.options.max_concurrency, facts.max_num_seqs)
            and point.sequences + point.chunk_tokens <= facts.max_num_batched_tokens
            and blocks <= KV_SHARE * facts.kv_blocks
        )

    def output_tokens(self, point: Point) -> int:
        """Output tokens of a decoding sequence after its batch is complete."""
        if point.kind == "mixed":
            # Each injection is given eight iterations: to arrive, to run, and a plain one beside it.
            return 8 * self.options.injections + 8
        return self.options.window_tokens + 1

    def _inside(self, name: str, values: list[int], most: int) -> list[int]:
        chosen = sorted(set(values))
        for value in chosen:
            require(0 <= value <= most, name, value, f"in [0, {most}] on this server")
        return chosen

    def _checks(self, grid: list[Point]) -> list[Point]:
        rng = Streams(self.options.seed).stream("checks")
        checks: set[Point] = set()
        by_kind = {kind: [p for p in grid if p.kind == kind] for kind in ("prefill", "decode", "mixed")}
        kinds = [kind for kind, points in by_kind.items() if points]
        for attempt in range(50 * self.options.checks):
            if len(checks) >= self.options.checks:
                break
            check = self._between(by_kind[kinds[attempt % len(kinds)]], rng)
            if check not in grid and self.fits(check):
                checks.add(check)
        return sorted(checks)

    def _between(self, points: list[Point], rng: np.random.Generator) -> Point:
        sequences = _draw(sorted({p.sequences for p in points}), rng)
        context = _draw(sorted({p.context_tokens for p in points}), rng)
        chunk = _draw(sorted({p.chunk_tokens for p in points}), rng)
        kind = points[0].kind
        if kind == "prefill":
            context = context // self.facts.block_size * self.facts.block_size
        return Point(kind, sequences, context, chunk, check=True)


def _draw(values: list[int], rng: np.random.Generator) -> int:
    """A value between two neighbours of a sorted list (both ends of the list included)."""
    if len(values) == 1:
        return values[0]
    low, high = list(pairwise(values))[rng.integers(len(values) - 1)]
    return int(rng.integers(low, high + 1))
