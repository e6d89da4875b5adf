"""The reference engine: one iteration at a time, to be read next to vLLM's own loop."""

from __future__ import annotations

from math import inf, nextafter
from typing import final

from gsim.core.events import EngineEvent, EventKind, Gauges, Progress, StreamCount
from gsim.core.protocols import LatencyModel
from gsim.core.registry import register
from gsim.core.request import Job
from gsim.core.streams import Streams
from gsim.engine.config import EngineConfig, EngineLimits
from gsim.engine.drafts import Drafts
from gsim.engine.iteration_time import needs_max_context, with_scheduling
from gsim.engine.kv.block_pool import BlockPool
from gsim.engine.policy_scheduler import make_scheduler
from gsim.engine.scheduler import Step
from gsim.engine.sequence import Sequence, make_sequence, only_prefill


@final
class StepwiseEngine:
    """One iteration at a time: the readable reference.

    An iteration that starts at t and takes d yields its tokens at t + d. Its batch is formed when time moves past t, so
    everything that is submitted at t is in it; what comes later waits for the next boundary.
    """

    def __init__(self, latency: LatencyModel, limits: EngineLimits, streams: Streams | None = None) -> None:
        """``streams``: the run's random ones, where the engine speculates (None: those of seed 0)."""
        self.limits = limits
        self.pool = BlockPool(limits.kv_blocks, limits.block_size, limits.prefix_caching, limits.host_kv)
        self._host = self.pool.host
        self.scheduler = make_scheduler(latency, limits, self.pool)
        self._drafts = Drafts(limits.speculation, streams or Streams(0)) if limits.speculation is not None else None
        self._gpu = latency
        self._latency = with_scheduling(latency, limits)
        self._needs_max_context = needs_max_context(latency)
        self._submitted = 0
        self._speed = 1.0
        self._boundary_s = 0.0
        """When the next iteration starts (where one is under way: when that one started)."""
        self._step: Step | None = None
        self._end_s = inf
        self._busy_s = 0.0
        self._power_s = 0.0
        self._stalled = False
        """Nobody runs, and who waits finds no blocks: prefilled sequences hold them."""
        self._released: list[Sequence] = []
        """Prefilled sequences whose blocks return at the end of the iteration under way."""
        self._events: list[EngineEvent] = []

    def submit(self, job: Job, now_s: float, kv_tokens: int = 0, ticket: object = None) -> None:
        """Queue a job; one that can never run here is reported as rejected."""
        self._queue(job, now_s, kv_tokens, ticket)

    def prefill(self, job: Job, now_s: float, ticket: object = None) -> None:
        """Queue a job that ends with its first token, whose blocks are held until they are released."""
        sequence = self._queue(job, now_s, 0, ticket)
        if sequence is not None:
            only_prefill(sequence)

    def release(self, request_id: int, now_s: float) -> None:
        """Return a prefilled sequence's blocks, at the end of the iteration under way."""
        self._catch_up(now_s)
        sequence = self.scheduler.kept.pop(request_id)
        if self._step is None:
            self.scheduler.let_go(sequence)
            self._go_on(now_s)
        else:
            self._released.append(sequence)

    def _queue(self, job: Job, now_s: float, kv_tokens: int, ticket: object) -> Sequence | None:
        self._catch_up(now_s)
        if self._step is None and not self.scheduler.running and not self.scheduler.waiting:
            self._boundary_s = now_s
        self._go_on(now_s)
        sequence = make_sequence(job, self._submitted, now_s, kv_tokens, self.limits, self.pool)
        self._submitted += 1
        if sequence is None:
            self._events.append(EngineEvent(now_s, EventKind.REJECTED, job.request.request_id, ticket=ticket))
            return None
        sequence.ticket = ticket
        self.scheduler.waiting.append(sequence)
        return sequence

    def _go_on(self, now_s: float) -> None:
        """Something changed: who found no blocks may find some."""
        if self._stalled:
            self._stalled = False
            self._boundary_s = max(self._boundary_s, now_s)

    def abort(self, request_id: int, now_s: float) -> Progress:
        """Take a request out; a running one keeps its blocks until the iteration under way ends."""
        self._catch_up(now_s)
        sequence = self.scheduler.find(request_id)
        computed = sequence.computed
        if sequence not in self.scheduler.running:
            self.scheduler.withdraw(sequence)
            self._go_on(now_s)
        elif self._step is None:
            self.scheduler.finish(sequence)
        else:
            computed -= self._step.scheduled.get(sequence, 0)
            sequence.aborted = True
        return Progress(sequence.generated, computed, sequence.hit_tokens)

    def next_event_s(self) -> float:
        """The end of the iteration under way; just after its start where it is not formed yet; ``inf`` when idle."""
        if self._events:
            return self._events[0].time_s
        if self._step is not None:
            return self._end_s
        if (self.scheduler.running or self.scheduler.waiting) and not self._stalled:
            return nextafter(self._boundary_s, inf)
        return inf

    def next_token_s(self, after_s: float) -> float:
        """The end of the iteration under way at ``after_s``; just after its start where it is not formed yet."""
        self._catch_up(after_s)
        if self._step is not None:
            return self._end_s
        if (self.scheduler.running or self.scheduler.waiting) and not self._stalled:
            return nextafter(self._boundary_s, inf)
        return inf

    def advance(self, to_s: float) -> list[EngineEvent]:
        """Run up to and including ``to_s``; the events since the last call, in time order."""
        self._catch_up(to_s)
        events = self._events
        self._events = []
        return events

    def gauges(self, now_s: float) -> Gauges:
        """What a scraper would read at ``now_s``."""
        self._catch_up(now_s)
        pool = self.pool
        return Gauges(len(self.scheduler.running), len(self.scheduler.waiting), (pool.total - pool.free) / pool.total)

    def progress(self, now_s: float) -> tuple[list[int], list[int]]:
        """Request ids on this engine and output tokens of each by ``now_s``."""
        self._catch_up(now_s)
        here = self.scheduler.here()
        return [sequence.request_id for sequence in here], [sequence.generated for sequence in here]

    def streams(self, now_s: float) -> tuple[int, list[StreamCount]]:
        """No clock, and every count: the reference looks at each sequence in each iteration anyway."""
        self._catch_up(now_s)
        here = self.scheduler.here()
        return 0, [StreamCount(each.request_id, each.generated, False, each.ticket) for each in here]

    def set_speed(self, factor: float, now_s: float) -> None:
        """From the next iteration on, iterations take ``1 / factor`` of their normal time."""
        self._catch_up(now_s)
        self._speed = factor

    def busy_s(self, now_s: float) -> float:
        """Seconds spent in iterations up to ``now_s``."""
        self._catch_up(now_s)
        return self._busy_s + (now_s - self._boundary_s if self._step is not None else 0.0)

    def power_s(self, now_s: float) -> float:
        """The same, weighted by the share of full power above idle that the card drew."""
        self._catch_up(now_s)
        step = self._step
        return self._power_s + ((now_s - self._boundary_s) * step.power if step is not None else 0.0)

    def counts(self) -> dict[str, int]:
        """What speculation and host memory did since the engine began; empty without them."""
        counts = {} if self._drafts is None else self._drafts.counts()
        return counts if self._host is None else counts | self._host.counts(self.limits.block_size)

    def _catch_up(self, to_s: float) -> None:
        while True:
            if self._step is None:
                if to_s <= self._boundary_s or self._stalled:
                    return
                if not (self.scheduler.running or self.scheduler.waiting):
                    return
                self._start()
            elif self._end_s <= to_s:
                self._complete(self._step)
            else:
                return

    def _start(self) -> None:
        """Form the batch of the iteration that starts at the boundary."""
        start_s = self._boundary_s
        self.scheduler.now_s = start_s
        step = self.scheduler.schedule()
        for sequence in step.preempted:
            self._tell(start_s, EventKind.PREEMPTED, sequence)
        for sequence in step.rejected:
            self._tell(start_s, EventKind.REJECTED, sequence)
        # A step that only put sequences off takes no time: the next one is formed at once.
        if step.scheduled:
            self._step = step
            batch = step.batch(self._needs_max_context)
            computing_s = self._latency.iteration_s(batch)
            if self._drafts is not None:
                computing_s += self._drafts.drafting_s(step, batch, self._gpu, self._needs_max_context)
            computing_s = computing_s / self._speed / step.speed
            if self._host is not None:
                computing_s = self._host.iteration_s(computing_s)
            self._end_s = start_s + computing_s + step.stall_s
        elif not step.preempted and not step.rejected:
            self._stalled = True

    def _complete(self, step: Step) -> None:
        """The iteration's tokens are there."""
        end_s = self._end_s
        self._busy_s += end_s - self._boundary_s
        self._power_s += (end_s - self._boundary_s) * step.power
        self._boundary_s = end_s
        self._step = None
        scheduler = self.scheduler
        for sequence in step.scheduled:
            if sequence.computed < sequence.length:
                continue
            if self._drafts is None:
                sequence.generated += 1
            else:
                sequence.generated += self._drafts.emitted(sequence)
                sequence.drafts = self._drafts.tokens
            if not sequence.aborted:
                self._report(sequence, end_s)
        for sequence in self._released:
            scheduler.let_go(sequence)
        self._released.clear()
        for sequence in [sequence for sequence in scheduler.running if sequence.aborted]:
            scheduler.finish(sequence)

    def _report(self, sequence: Sequence, end_s: float) -> None:
        if sequence.generated == 1:
            self._tell(end_s, EventKind.FIRST_TOKEN, sequence, sequence.hit_tokens)
        if sequence.generated == sequence.stop:
            self._tell(end_s, EventKind.PREFILLED if sequence.keep else EventKind.FINISHED, sequence)
            self.scheduler.finish(sequence)

    def _tell(self, time_s: float, kind: EventKind, sequence: Sequence, cached_tokens: int = 0) -> None:
        event = EngineEvent(time_s, kind, sequence.request_id, sequence.generated, cached_tokens, sequence.ticket)
        self._events.append(event)


# Not as a decorator: a decorated class is not compiled to a native one.
register("engine", "stepwise", config=EngineConfig)(StepwiseEngine)
