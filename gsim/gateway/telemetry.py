"""What keeps the gateway's view fresh: scrapes, streamed tokens, samples for figures."""

from __future__ import annotations

from collections.abc import Callable, Generator
from math import inf
from typing import Any

import numpy as np
import simpy

from gsim.core import Estimator
from gsim.gateway.gateway import Gateway
from gsim.gateway.records import Columns


class Scraper:
    """Reads every instance's gauges at a fixed interval, as a router reads ``/metrics``.

    A scrape that nobody would read before the next one is left out: where only the rectifier looks at gauges, those
    right before its reviews are made.
    """

    def __init__(self, gateway: Gateway, interval_s: float) -> None:
        self._gateway = gateway
        self._interval_s = interval_s
        self.next_reader_s: Callable[[], float] = lambda: -inf
        """When somebody reads next: a scrape that is replaced before that time is left out."""
        self.scrapes = 0
        self.lost = np.zeros(len(gateway.instances), dtype=np.bool_)
        """Instances whose metrics cannot be read at present (a fault)."""

    def run(self) -> Generator[simpy.Event, Any, None]:
        """The SimPy process."""
        env = self._gateway.env
        while True:
            if self.next_reader_s() <= env.now + self._interval_s:
                self.scrape(env.now)
            else:
                self._gateway.ask_held()
            yield env.timeout(self._interval_s)

    def scrape(self, now_s: float) -> None:
        """Read every instance that answers."""
        view = self._gateway.view
        readable = np.flatnonzero(view.available & ~self.lost)
        if not len(readable):
            return
        gauges = [self._gateway.instances[i].gauges(now_s) for i in readable.tolist()]
        running, waiting, kv_usage = zip(*gauges, strict=True)
        view.running[readable] = running
        view.waiting[readable] = waiting
        view.kv_usage[readable] = kv_usage
        view.scraped_s[readable] = now_s
        self.scrapes += 1
        self._gateway.ask_held()


class StreamObserver:
    """Hands the tokens that streamed through the gateway to the estimator, per instance and interval."""

    def __init__(self, gateway: Gateway, estimator: Estimator, interval_s: float) -> None:
        self._gateway = gateway
        self._estimator = estimator
        self._interval_s = interval_s

    def run(self) -> Generator[simpy.Event, Any, None]:
        """The SimPy process."""
        env = self._gateway.env
        while True:
            yield env.timeout(self._interval_s)
            self._observe(env.now)
            self._estimator.refresh(env.now)

    def _observe(self, now_s: float) -> None:
        gateway = self._gateway
        table = gateway.table
        assert table is not None, "who needs estimates has a table"
        # Only streams that were decoding during the whole interval say how fast decoding is.
        streams, tokens = table.streamed(table.follow(gateway.instances, now_s))
        for index in np.flatnonzero(tokens > 0).tolist():
            self._estimator.streamed(index, int(tokens[index]), self._interval_s * int(streams[index]), now_s)


class Sampler:
    """Records the true state of every instance over time, for figures and time lines."""

    def __init__(self, gateway: Gateway, interval_s: float) -> None:
        self._gateway = gateway
        self._interval_s = interval_s
        self._rows: list[tuple[float, ...]] = []

    def run(self) -> Generator[simpy.Event, Any, None]:
        """The SimPy process."""
        env = self._gateway.env
        view = self._gateway.view
        while True:
            for i, instance in enumerate(self._gateway.instances):
                running, waiting, kv_usage = instance.gauges(env.now)
                learned = (view.queue_s[i], view.prefill_s_per_token[i], view.tpot_s[i])
                self._rows.append((env.now, i, running, waiting, kv_usage, int(view.in_flight[i]), *learned))
            yield env.timeout(self._interval_s)

    def columns(self) -> Columns:
        """The samples, a row per time and instance; the last three are the gateway's estimates."""
        state = ["time_s", "instance", "running", "waiting", "kv_usage", "in_flight"]
        names = [*state, "queue_s", "prefill_s_per_token", "tpot_s"]
        table = np.array(self._rows, dtype=np.float64).reshape(-1, len(names))
        return {name: table[:, i] for i, name in enumerate(names)}
