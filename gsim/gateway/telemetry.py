"""What keeps the gateway's view fresh: scrapes, streamed tokens, samples for figures."""

from __future__ import annotations

from math import nan

import numpy as np

from gsim.core import Estimator
from gsim.core.answers import require_learned, title
from gsim.core.view import float_cells, int_cells
from gsim.gateway.active_table import ActiveTable
from gsim.gateway.clock import Alarm
from gsim.gateway.gateway import Gateway
from gsim.gateway.monitor import Monitor
from gsim.gateway.records import Columns


class Scraper:
    """Reads every instance's gauges at a fixed interval, as a router reads ``/metrics``.

    A scrape that nobody would read before the next one is left out: where only the rectifier looks at gauges, those
    right before its reviews are made.
    """

    def __init__(self, gateway: Gateway, interval_s: float, only_reader: Monitor | None = None) -> None:
        self._gateway = gateway
        self._interval_s = interval_s
        self._only_reader = only_reader
        """Where nobody else reads: a scrape that is replaced before its next review is left out."""
        self.scrapes = 0
        self.lost = np.zeros(len(gateway.backends), dtype=np.bool_)
        """Instances whose metrics cannot be read at present (a fault)."""
        view = gateway.view
        self._running, self._waiting = int_cells(view.running), int_cells(view.waiting)
        self._kv_usage, self._scraped_s = float_cells(view.kv_usage), float_cells(view.scraped_s)
        self._loop = gateway.loops.add(self.start, lambda last_s, _next_s: self.scrape(last_s))

    def start(self) -> None:
        """Scrape now, and again and again from now on, an interval apart."""
        gateway, reader = self._gateway, self._only_reader
        now_s = gateway.clock.now
        if reader is None or reader.next_review_s <= now_s + self._interval_s:
            self.scrape(now_s)
        else:
            gateway.ask_held()
        self._loop.again(self._interval_s)

    def scrape(self, now_s: float) -> None:
        """Read every instance that answers."""
        gateway = self._gateway
        up, lost = gateway.view.available.tolist(), self.lost.tolist()
        readable = [index for index in range(len(up)) if up[index] and not lost[index]]
        if not readable:
            return
        for index in readable:
            gauges = gateway.backends[index].gauges(now_s)
            if gauges is not None:
                self._running[index], self._waiting[index], self._kv_usage[index] = gauges
                self._scraped_s[index] = now_s
        self.scrapes += 1
        gateway.ask_held()


class StreamObserver:
    """Hands the tokens that streamed through the gateway to the estimator, per instance and interval."""

    def __init__(self, gateway: Gateway, table: ActiveTable, estimator: Estimator, interval_s: float) -> None:
        self._gateway = gateway
        self._table = table
        self._estimator = estimator
        self._interval_s = interval_s
        self._title = title("estimator", estimator)
        self._loop = gateway.loops.add(self._ring, self._skipped)
        require_learned(gateway.view, self._title)

    def start(self) -> None:
        """Observe again and again from now on, an interval apart."""
        self._loop.again(self._interval_s)

    def _ring(self) -> None:
        now_s = self._gateway.clock.now
        self._observe(now_s)
        self._estimator.refresh(now_s)
        self.start()
        require_learned(self._gateway.view, self._title)

    def _skipped(self, last_s: float, _next_s: float) -> None:
        # Nothing streams while it sleeps: time has passed, that is all.
        self._estimator.refresh(last_s)
        require_learned(self._gateway.view, self._title)

    def _observe(self, now_s: float) -> None:
        table = self._table
        # Only streams that were decoding during the whole interval say how fast decoding is.
        streams, tokens = table.streamed(table.follow(self._gateway.backends, now_s))
        for index, (count, span) in enumerate(zip(tokens.tolist(), streams.tolist(), strict=True)):
            if count > 0:
                self._estimator.streamed(index, count, self._interval_s * span, now_s)


class Sampler:
    """Records the true state of every instance over time, for figures and time lines."""

    def __init__(self, gateway: Gateway, interval_s: float) -> None:
        self._gateway = gateway
        self._interval_s = interval_s
        self._rows: list[tuple[float, ...]] = []
        self._alarm = Alarm(gateway.clock, self.start, watches=True)

    def start(self) -> None:
        """Record now, and again and again from now on, an interval apart."""
        now_s, view = self._gateway.clock.now, self._gateway.view
        for i, backend in enumerate(self._gateway.backends):
            running, waiting, kv_usage = backend.gauges(now_s) or (nan, nan, nan)
            learned = (view.queue_s[i], view.prefill_s_per_token[i], view.tpot_s[i], float(view.available[i]))
            self._rows.append((now_s, i, running, waiting, kv_usage, int(view.in_flight[i]), *learned))
        self._alarm.set(self._interval_s)

    def columns(self) -> Columns:
        """A row per time and instance: its state, the gateway's estimates, and whether it was up (1 or 0)."""
        state = ["time_s", "instance", "running", "waiting", "kv_usage", "in_flight"]
        names = [*state, "queue_s", "prefill_s_per_token", "tpot_s", "up"]
        table = np.array(self._rows, dtype=np.float64).reshape(-1, len(names))
        return {name: table[:, i] for i, name in enumerate(names)}
