"""Time one iteration of a live server: alone with a chunk, decoding a batch, or both at once.

Timed prefills are drawn at random, so no prefix cache can fake them; where a cached context is wanted, the same tokens
are sent once before. A decode is timed by the tokens' arrivals, a prefill by the server's own histogram (scheduled to
first token, on the engine's clock) where it has one, and by the client otherwise.
"""

from __future__ import annotations

import asyncio
import math
import zlib
from bisect import bisect_right
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import fmean, median

import numpy as np

from gsim.calibration.answer import Answer, Stream
from gsim.calibration.client import Client
from gsim.calibration.cores import CoreWatch
from gsim.calibration.options import MeasureOptions
from gsim.calibration.plan import Planner, Point, lead_tokens
from gsim.calibration.raw import Measurement
from gsim.calibration.server import Metrics, ServerFacts, scrape, wait_until_idle

#: By how much a server may time a prefill longer than its client waited for it: two clocks, read at two moments.
_CLOCKS_S = 0.01
PREFILL_TIME = "vllm:request_prefill_time_seconds"
CACHE_HITS = "vllm:prefix_cache_hits_total"


@dataclass(frozen=True)
class Timing:
    """What one repeat gave."""

    iteration_s: float
    basis: str
    actual_context_tokens: float
    client_s: float
    server_s: float
    samples_s: list[float]
    generated: int
    """Output tokens that we caused: the server's counter must agree, or somebody else was there."""
    dropped: str = ""
    plain_s: float = math.nan
    held_s: float = math.nan


class Stopwatch:
    """Times single points on one server."""

    def __init__(
        self, client: Client, facts: ServerFacts, options: MeasureOptions, planner: Planner, rng: np.random.Generator
    ) -> None:
        self.client = client
        self.facts = facts
        self.options = options
        self.planner = planner
        self.rng = rng
        self.watch = CoreWatch(options.server_pid) if options.server_pid is not None else None

    async def take(self, point: Point, repeat: int) -> Measurement:
        """Time ``point`` once; the measurement says if it counts."""
        before = await wait_until_idle(self.client, self.options.patience_s) if self.facts.metrics else None
        if self.watch is not None:
            self.watch.start()
        timing = await {"prefill": self._prefill, "decode": self._decode, "mixed": self._mixed}[point.kind](point)
        waited = self.watch.waited() if self.watch is not None else 0.0
        dropped = timing.dropped or _impossible(timing) or await self._disturbed(before, timing.generated)
        if not dropped and waited > self.options.max_wait:
            dropped = f"another program on the core: the server waited {100 * waited:.0f} % of its time"
        return Measurement(
            kind=point.kind,
            sequences=point.sequences,
            context_tokens=point.context_tokens,
            chunk_tokens=point.chunk_tokens,
            check=point.check,
            repeat=repeat,
            iteration_s=timing.iteration_s,
            basis=timing.basis,
            actual_context_tokens=timing.actual_context_tokens,
            client_s=timing.client_s,
            server_s=timing.server_s,
            samples_s=timing.samples_s,
            dropped=dropped,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            plain_s=timing.plain_s,
            held_s=timing.held_s,
        )

    async def warm_up(self) -> None:
        """Run every kind once for nothing: first iterations compile and allocate."""
        for kind in ("prefill", "decode", "mixed"):
            few = [point for point in self.planner.points() if point.kind == kind]
            for point in sorted(few, key=lambda point: (point.sequences, point.chunk_tokens))[:: max(1, len(few) - 1)]:
                await self.take(point, 0)

    def prompt(self, tokens: int, rng: np.random.Generator | None = None) -> list[int]:
        """A prompt that nobody sent before (``rng``: the prompts of this generator instead)."""
        draw = self.rng if rng is None else rng
        return [int(t) for t in draw.integers(self.options.low_token, self.options.high_token, tokens)]

    def batch_prompts(self, point: Point, tokens: int) -> list[list[int]]:
        """Prompts for a decoding batch: unlike one another, but the same in every repeat.

        What is timed is their decoding; that the prefix cache spares the server their prefill is welcome.
        """
        rng = np.random.default_rng([self.options.seed, zlib.crc32(point.key.encode())])
        return [self.prompt(tokens, rng) for _ in range(point.sequences)]

    async def _prefill(self, point: Point) -> Timing:
        model, context = self.facts.model, point.context_tokens
        cached = self.prompt(context)
        generated = 1
        if context:
            await self.client.complete(model, [cached], 1)
            generated += 1
        # The counters of the priming request must have settled before the next one is read off them.
        before = await self._settled() if self.facts.metrics else None
        answer = await self.client.complete(model, [[*cached, *self.prompt(point.chunk_tokens)]], 1)
        after = await self._counted(before, PREFILL_TIME + "_count", 1.0) if before is not None else None
        client_s = answer.streams[0].times_s[0] - answer.sent_s
        server_s, dropped = math.nan, ""
        if before is not None and after is not None:
            if after.total(PREFILL_TIME + "_count") - before.total(PREFILL_TIME + "_count") == 1.0:
                server_s = after.total(PREFILL_TIME + "_sum") - before.total(PREFILL_TIME + "_sum")
                if not server_s > 0.0:
                    dropped = f"the server's histogram of prefill times runs backwards: {server_s:g} s"
            hits = after.total(CACHE_HITS) - before.total(CACHE_HITS)
            if hits != context and not dropped:
                dropped = f"prefix cache: {hits:g} tokens hit, {context} wanted"
        own = math.isfinite(server_s)
        return Timing(
            server_s if own else client_s,
            "server" if own else "client",
            float(context),
            client_s,
            server_s,
            [],
            generated,
            dropped,
        )

    async def _decode(self, point: Point) -> Timing:
        lead = lead_tokens(point, self.facts)
        total = lead + self.planner.output_tokens(point)
        # The window is the last part of the run: its middle is to lie at the wanted context.
        prompt_tokens = max(1, point.context_tokens - lead - self.options.window_tokens // 2)
        answer = await self.client.complete_each(self.facts.model, self.batch_prompts(point, prompt_tokens), total)
        means, contexts, samples = [], [], []
        # All sequences decode together from the last one's first token to the first one's last token.
        start_s = max(stream.times_s[0] for stream in answer.streams)
        end_s = min(stream.times_s[-1] for stream in answer.streams)
        for stream in answer.streams:
            window = _window(stream, start_s, end_s, self.options.window_tokens)
            if window is None:
                dropped = "the sequences did not decode together long enough"
                return Timing(math.nan, "client", math.nan, math.nan, math.nan, [], answer.completion_tokens, dropped)
            first, last = window
            count = stream.tokens[last] - stream.tokens[first]
            means.append((stream.times_s[last] - stream.times_s[first]) / count)
            # The iteration that makes token k has k - 2 outputs' KV behind the prompt's; the mean over the window.
            contexts.append(prompt_tokens + (stream.tokens[first] + stream.tokens[last] + 1) / 2 - 2)
            samples = [float(x) for x in np.diff(stream.times_s[first : last + 1])]
        iteration_s = fmean(means)
        return Timing(iteration_s, "client", fmean(contexts), iteration_s, math.nan, samples, answer.completion_tokens)

    async def _mixed(self, point: Point) -> Timing:
        lead = lead_tokens(point, self.facts)
        total = lead + self.planner.output_tokens(point)
        prompt_tokens = max(1, point.context_tokens - lead - self.planner.output_tokens(point) // 2)
        turns = [asyncio.Event() for _ in range(self.options.injections)]

        last_s, gap_s = [math.nan], [0.0]

        def on_token(sequence: int, tokens: int) -> None:
            now_s = asyncio.get_running_loop().time()
            if sequence == point.sequences - 1:
                last_s[0], gap_s[0] = now_s, now_s - last_s[0] if tokens > 1 else 0.0
            for turn, event in enumerate(turns):
                if sequence == point.sequences - 1 and tokens >= lead + 8 * turn:
                    event.set()

        background: asyncio.Task[Answer] = asyncio.create_task(
            self.client.complete_each(self.facts.model, self.batch_prompts(point, prompt_tokens), total, on_token)
        )
        try:
            injected: list[Answer] = []
            for event in turns:
                waiting = asyncio.create_task(event.wait())
                await asyncio.wait((waiting, background), return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if not event.is_set():
                    break
                # At any moment of an iteration, as arrivals come: at its beginning they would hold up nobody.
                await asyncio.sleep(float(self.rng.random()) * gap_s[0])
                injected.append(await self.client.complete(self.facts.model, [self.prompt(point.chunk_tokens)], 1))
            answer = await background
        finally:
            background.cancel()
        generated = answer.completion_tokens + len(injected)
        samples, contexts, held = [], [], []
        for prefill in injected:
            found = step_of(prefill.streams[0].times_s[0], answer.streams)
            if found is not None:
                samples.append(found[0])
                contexts.append(prompt_tokens + found[1])
                held += held_up(prefill.sent_s, prefill.streams[0].times_s[0], answer.streams)
        if not samples:
            dropped = "no prompt was prefilled beside the decodes"
            return Timing(math.nan, "client", math.nan, math.nan, math.nan, [], generated, dropped)
        iteration_s = median(samples)
        timing = Timing(iteration_s, "client", fmean(contexts), iteration_s, math.nan, samples, generated)
        return replace(timing, plain_s=plain_step(answer.streams), held_s=median(held) if held else math.nan)

    async def _settled(self) -> Metrics:
        return await wait_until_idle(self.client, self.options.patience_s)

    async def _counted(self, before: Metrics, name: str, count: float) -> Metrics | None:
        """The metrics once a counter has moved on by ``count``: servers count just after they answer."""
        after = None
        for pause_s in (0.0, 0.01, 0.03, 0.1, 0.3, 1.0):
            await asyncio.sleep(pause_s)
            after = await scrape(self.client)
            if after is None or after.total(name) - before.total(name) >= count:
                break
        return after

    async def _disturbed(self, before: Metrics | None, generated: int) -> str:
        """Why the repeat does not count: somebody else used the server meanwhile. Empty: nobody did."""
        if before is None:
            return ""
        after = await self._counted(before, "vllm:generation_tokens_total", float(generated))
        if after is None:
            return "the server's metrics went away"
        others = after.generated - before.generated - generated
        if others != 0:
            return f"another load: {others:g} tokens that are not ours"
        if after.busy:
            # The gauges are of the last iteration: an idle server may need a moment to say so.
            await asyncio.sleep(0.1)
            after = await scrape(self.client)
            if after is None or after.busy:
                return "another load: requests that are not ours"
        return ""


def _impossible(timing: Timing) -> str:
    """Why what was timed cannot be an iteration's time; empty where it can."""
    if not 0.0 < timing.iteration_s < math.inf:
        return f"an iteration of {timing.iteration_s:g} s: the answer came in one piece (does a proxy hold it back?)"
    if timing.basis == "server" and timing.server_s > timing.client_s + _CLOCKS_S:
        return f"its histogram says {timing.server_s:g} s of prefill, and the answer took {timing.client_s:g} s"
    return ""


def _window(stream: Stream, start_s: float, end_s: float, tokens: int) -> tuple[int, int] | None:
    """First and last arrival of the last ``tokens`` tokens up to ``end_s``, if all came after ``start_s``."""
    last = bisect_right(stream.times_s, end_s) - 1
    first = last
    while first > 0 and stream.tokens[last] - stream.tokens[first] < tokens:
        first -= 1
    if stream.tokens[last] - stream.tokens[first] < tokens or stream.times_s[first] < start_s:
        return None
    return first, last


def step_of(first_token_s: float, streams: list[Stream]) -> tuple[float, float] | None:
    """Duration and mean context growth of the iteration in which ``first_token_s`` was made.

    All sequences of one iteration get their tokens together: the decodes' tokens nearest to the first token of the
    prompt end the same iteration.
    """
    durations, growth = [], []
    for stream in streams:
        times = np.asarray(stream.times_s)
        step = int(np.argmin(np.abs(times - first_token_s)))
        if step == 0 or stream.tokens[step] - stream.tokens[step - 1] != 1:
            continue  # arrivals that were lumped together hide the boundary between two iterations
        duration_s = float(times[step] - times[step - 1])
        if duration_s < 0.5 * float(np.median(np.diff(times))):
            continue  # a chunk beside the decodes takes longer than none: the client was late to read
        durations.append(duration_s)
        growth.append(stream.tokens[step] - 2)
    if not durations:
        return None
    return median(durations), fmean(growth)


def plain_step(streams: list[Stream]) -> float:
    """The median iteration while all sequences decode (few have a chunk beside them); NaN where they never do."""
    start_s, end_s = max(stream.times_s[0] for stream in streams), min(stream.times_s[-1] for stream in streams)
    steps = [np.diff([time for time in stream.times_s if start_s <= time <= end_s]) for stream in streams]
    every = np.concatenate(steps)
    return float(np.median(every)) if len(every) else math.nan


def held_up(sent_s: float, first_token_s: float, streams: list[Stream]) -> list[float]:
    """By how much the plain iterations between a prompt's sending and its own iteration exceeded their median, in all.

    One value per stream in which there is such an iteration.
    """
    excess = []
    for stream in streams:
        times = np.asarray(stream.times_s)
        step = int(np.argmin(np.abs(times - first_token_s)))
        first = int(np.searchsorted(times, sent_s))
        plain_s = np.diff(times)
        if 0 < first < step:
            # The interval that holds the sending, and those up to the one that ends with the prompt's first token.
            excess.append(float(np.sum(plain_s[first - 1 : step - 1] - np.median(plain_s))))
    return excess
