"""Measure a live server: every point until it is tight, in random order, kept as it comes."""

from __future__ import annotations

import asyncio
import math
from dataclasses import asdict
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from scipy import stats

from gsim.calibration.client import Client, masked
from gsim.calibration.iterations import Stopwatch
from gsim.calibration.options import MeasureOptions, api_key
from gsim.calibration.plan import Planner, Point
from gsim.calibration.raw import Measurement, RawStore
from gsim.calibration.retries import AnswerError, pause_or_give_up, persistent
from gsim.calibration.server import ServerFacts, discover
from gsim.calibration.shape import served_dtype, served_shape
from gsim.latency import shape_fields

#: What must not change when a run goes on in its folder.
FIXED = (
    "gpu",
    "model",
    "version",
    "max_model_len",
    "block_size",
    "kv_blocks",
    "max_num_batched_tokens",
    "max_num_seqs",
)


def relative_half_width(values: list[float]) -> float:
    """Half of the 95 % interval of the median, relative to it; infinite for fewer than two values.

    The spread is taken from the median absolute deviation (x 1.4826, as for normal noise), so that one repeat that was
    held up does not keep a point open for ever; a median's standard error is 1.2533 times a mean's.
    """
    if len(values) < 2:
        return math.inf
    centre = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(np.asarray(values) - centre)))
    quantile = float(stats.t.ppf(0.975, len(values) - 1))
    return 1.2533 * quantile * spread / math.sqrt(len(values)) / centre


class Campaign:
    """One run of measurements against one server."""

    def __init__(self, options: MeasureOptions, client: Client, facts: ServerFacts, store: RawStore) -> None:
        self.options = options
        self.store = store
        self.facts = facts
        self.planner = Planner(options, facts)
        self.points = self.planner.points()
        self.kept: dict[Point, list[float]] = {point: [] for point in self.points}
        self.tries: dict[Point, int] = dict.fromkeys(self.points, 0)
        shape = served_shape(facts.model, options.model_config)
        self.meta = {"gpu": options.gpu, **asdict(facts), "options": asdict(options) | {"url": masked(options.url)}}
        self.meta.update(shape=shape_fields(shape), weight_dtype=served_dtype(options.model_config))
        for measurement in store.open(self.meta, FIXED):
            self._note(measurement)
        # A resumed run must not repeat the prompts of the first: they would hit the prefix cache.
        rng = np.random.default_rng([options.seed, sum(self.tries.values())])
        self.rng = rng
        self.stopwatch = Stopwatch(client, facts, options, self.planner, rng)
        self._failures = 0

    def _note(self, measurement: Measurement) -> None:
        point = measurement.point
        if point in self.kept:
            self.tries[point] += 1
            if not measurement.dropped:
                self.kept[point].append(measurement.iteration_s)

    def open_points(self) -> list[Point]:
        """Points that need more repeats."""
        return [point for point in self.points if not self.tight(point) and not self.given_up(point)]

    def tight(self, point: Point) -> bool:
        """True when the point's median is known well enough."""
        values = self.kept[point]
        return len(values) >= self.options.min_repeats and relative_half_width(values) <= self.options.tight

    def given_up(self, point: Point) -> bool:
        """True when the point had all its repeats, or was disturbed too often."""
        most = self.options.max_repeats
        return len(self.kept[point]) >= most or self.tries[point] >= 4 * most

    async def run(self, progress: Progress) -> None:
        """Rounds over the open points, each in a new random order, until all are closed or time is up."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self.options.max_seconds
        task = progress.add_task("warm-up", total=len(self.points), completed=self._closed())
        if self.open_points():
            await persistent(self.stopwatch.warm_up, self.options.max_failures)
        while (todo := self.open_points()) and loop.time() < deadline_s:
            for index in self.rng.permutation(len(todo)):
                if loop.time() >= deadline_s:
                    return
                await self._take(todo[index])
                progress.update(task, completed=self._closed(), description=todo[index].key)

    def _closed(self) -> int:
        return len(self.points) - len(self.open_points())

    async def _take(self, point: Point) -> None:
        try:
            measurement = await self.stopwatch.take(point, self.tries[point])
        except AnswerError as error:
            self._failures += 1
            await pause_or_give_up(error, self._failures, self.options.max_failures)
            return
        self._failures = 0
        self.store.append(measurement)
        self._note(measurement)

    def summary(self) -> str:
        """What became of the run, in one line."""
        tight = sum(self.tight(point) for point in self.points)
        never = sum(not self.kept[point] for point in self.points)
        dropped = sum(self.tries.values()) - sum(len(values) for values in self.kept.values())
        return (
            f"{sum(self.tries.values())} measurements of {len(self.points)} points ({never} never measured), "
            f"{tight} of them tight (95 % interval of the median within {100 * self.options.tight:g} %), "
            f"{dropped} repeats dropped"
        )


async def measure(options: MeasureOptions, transport: httpx.AsyncBaseTransport | None = None) -> str:
    """Measure a server into ``options.out``; says what became of it.

    Raises ``ServerError`` or ``ConfigError`` with what the person can do; what was measured until then is kept.
    """
    console = Console(stderr=True)
    async with Client(
        options.url,
        max_concurrency=options.max_concurrency,
        timeout_s=options.timeout_s,
        answer_s=options.answer_s,
        api_key=api_key(options.api_key_env),
        transport=transport,
    ) as client:
        facts = await persistent(lambda: discover(client, options), options.max_failures)
        for name in facts.assumed:
            console.print(f"note: {name} is assumed to be {getattr(facts, name)}; state it if it is not")
        if not facts.metrics:
            console.print("note: no /metrics: prefills are timed by the client, another load goes unnoticed")
        store = RawStore(Path(options.out))
        campaign = Campaign(options, client, facts, store)
        columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        try:
            with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
                # What is under way when time is up may end, if the server lets it: one silence long.
                async with asyncio.timeout(options.max_seconds + options.timeout_s):
                    await campaign.run(progress)
        except TimeoutError:
            console.print(f"note: time was up ({options.max_seconds:g} s), and the server did not end its last answer")
        finally:
            store.consolidate()
        return campaign.summary()
