"""One instance of the pool: an engine that is woken when something observable happens."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final, final

from gsim.core import Engine, Gauges, Job, Progress, StreamCount, Streams
from gsim.core.protocols import Counting
from gsim.engine import make_engine
from gsim.gateway.backend import Backend, Report
from gsim.gateway.clock import Alarm, Clock

if TYPE_CHECKING:
    from gsim.cluster.scenario import InstanceSpec

# Instead of a number of KV tokens: a prefill leg, which brings none.
_PREFILL: Final = -1


@final
class Instance(Backend):
    """Keeps one alarm set at the engine's next event, and reports to the gateway what happens."""

    def __init__(
        self, clock: Clock, index: int, spec: InstanceSpec, report: Report, streams: Streams | None = None
    ) -> None:
        self.index = index
        self.spec = spec
        self.wakeups = 0
        self._clock = clock
        self._report = report
        self._streams = streams
        self._engine = self._fresh_engine()
        self._alarm = Alarm(clock, self._wake)
        self._due_s = inf
        """The engine's next event."""
        self._busy_before_s = 0.0
        self._power_before_s = 0.0
        self._counts_before: dict[str, int] = {}
        self._speed = 1.0
        self._api_s = spec.api_s
        self._entering: deque[tuple[float, Job, int, object]] = deque()
        """What the server's API has taken in and the engine has not: when it will have, job, KV tokens, ticket."""
        self._submitted_s = 0.0

    def _fresh_engine(self) -> Engine:
        return make_engine(self.spec.engine.name, self.spec.profile.latency, self.spec.limits, self._streams)

    def send(self, job: Job, now_s: float, kv_tokens: int, ticket: object) -> None:
        """Send a job: by way of the server's API, except where its KV came from another engine with it."""
        if self._api_s > 0.0 and not kv_tokens:
            self._entering.append((now_s + self._api_s, job, kv_tokens, ticket))
        else:
            self._queue(job, now_s, kv_tokens, ticket)
        self._arm(now_s)

    def prefill(self, job: Job, now_s: float, ticket: object) -> None:
        """Send a job of which only the prompt and the first token are asked for."""
        if self._api_s > 0.0:
            self._entering.append((now_s + self._api_s, job, _PREFILL, ticket))
        else:
            self._queue(job, now_s, _PREFILL, ticket)
        self._arm(now_s)

    def release(self, request_id: int, now_s: float) -> None:
        """Let the KV cache of a prefilled request go. Call ``sync`` first."""
        self._engine.release(request_id, now_s)
        self._arm(now_s)

    def _queue(self, job: Job, now_s: float, kv_tokens: int, ticket: object) -> None:
        # Two ways lead to the engine, and their clocks may differ in the last bit.
        self._submitted_s = max(self._submitted_s, now_s)
        if kv_tokens == _PREFILL:
            self._engine.prefill(job, self._submitted_s, ticket)
        else:
            self._engine.submit(job, self._submitted_s, kv_tokens, ticket)

    def abort(self, request_id: int, now_s: float) -> Progress:
        """Take a request out. Call ``sync`` first: what happened before ``now_s`` must be told before."""
        for entry in self._entering:
            if entry[1].request.request_id == request_id:
                self._entering.remove(entry)
                self._arm(now_s)
                return Progress(0, 0)
        progress = self._engine.abort(request_id, now_s)
        self._arm(now_s)
        return progress

    def sync(self, now_s: float) -> None:
        """Tell everything that has happened up to ``now_s``."""
        if self._due_s <= now_s:
            self._deliver(now_s)
            self._arm(now_s)

    def gauges(self, now_s: float) -> Gauges:
        """What a scraper reads."""
        return self._engine.gauges(now_s)

    def progress(self, now_s: float) -> tuple[list[int], list[int]]:
        """Request ids here and the tokens that each has streamed."""
        return self._engine.progress(now_s)

    def streams(self, now_s: float) -> tuple[int, list[StreamCount]]:
        """The decode clock, and the stream counts that changed (see ``Engine.streams``)."""
        return self._engine.streams(now_s)

    def next_token_s(self, after_s: float) -> float:
        """When tokens stream next, after ``after_s`` (see ``Engine.next_token_s``)."""
        return self._engine.next_token_s(after_s)

    def set_speed(self, factor: float, now_s: float) -> None:
        """Slow down (below 1) or restore (1) the instance from its next iteration on."""
        self._speed = factor
        self._engine.set_speed(factor, now_s)
        self._arm(now_s)

    def forget(self, now_s: float) -> None:
        """Lose everything on the instance: a fresh, empty engine takes the old one's place."""
        self._busy_before_s += self._engine.busy_s(now_s)
        self._power_before_s += self._engine.power_s(now_s)
        self._counts_before = self.counts()
        self._engine = self._fresh_engine()
        self._entering.clear()
        if self._speed != 1.0:
            self._engine.set_speed(self._speed, now_s)
        self._arm(now_s)

    def busy_s(self, now_s: float) -> float:
        """Seconds spent computing up to ``now_s``."""
        return self._busy_before_s + self._engine.busy_s(now_s)

    def power_s(self, now_s: float) -> float:
        """The same, weighted by the share of full power above idle that the card drew."""
        return self._power_before_s + self._engine.power_s(now_s)

    def counts(self) -> dict[str, int]:
        """What else the instance's engines counted (see ``Counting``); empty where they count nothing."""
        engine: object = self._engine
        counts = engine.counts() if isinstance(engine, Counting) else {}
        return {name: count + self._counts_before.get(name, 0) for name, count in counts.items()}

    def _arm(self, now_s: float) -> None:
        due_s = self._engine.next_event_s()
        if self._entering and self._entering[0][0] < due_s:
            due_s = self._entering[0][0]
        if due_s == self._due_s:
            return
        self._due_s = due_s
        delay_s = due_s - now_s
        self._alarm.set(delay_s if delay_s > 0 else 0.0)

    def _wake(self) -> None:
        self.wakeups += 1
        # The engine's own time, not the clock's: now + (due - now) may differ from due in the last bit.
        due_s = self._due_s
        self._deliver(due_s)
        self._arm(max(due_s, self._clock.now))

    def _deliver(self, to_s: float) -> None:
        index = self.index
        report = self._report
        while self._entering and self._entering[0][0] <= to_s:
            entered_s, job, kv_tokens, ticket = self._entering[0]
            for event in self._engine.advance(entered_s):
                report(index, event)
            # Told of an event, the gateway may have taken the request away. The job says which entry it is: compiled, a
            # tuple is a value without identity.
            if self._entering and self._entering[0][1] is job:
                self._entering.popleft()
                self._queue(job, entered_s, kv_tokens, ticket)
        for event in self._engine.advance(to_s):
            report(index, event)
