"""The fast engine: it jumps from one change of the batch to the next, and schedules as the reference does.

Between two changes every iteration is a pure decode, whose times the latency model sums in one call. A change is an
admission step (one iteration in which waiting prompts, or the rest of one, are computed beside the decodes), a finish,
or a preemption.

Time is kept at an iteration boundary that may lie ahead of the observer's: an arrival during a run of decodes ends the
run at the next boundary, and the engine goes there at once. Who looks before is shown the iteration still under way.
"""

from __future__ import annotations

from math import inf, nextafter
from typing import Final, final

from gsim.core.errors import ConfigError
from gsim.core.events import EngineEvent, EventKind, Gauges, Progress, StreamCount
from gsim.core.protocols import LatencyModel
from gsim.core.registry import register
from gsim.core.request import Job
from gsim.engine.clocked import ClockedScheduler, Happening, Kind
from gsim.engine.config import EngineConfig, EngineLimits
from gsim.engine.iteration_time import needs_max_context, with_scheduling
from gsim.engine.ordering import ordering_of
from gsim.engine.sequence import Sequence, make_sequence, only_prefill

# Skips the NamedTuple's Python-level constructor.
_new: Final = tuple.__new__

# Members of an enum are looked up slowly; these are compared several times per event.
_UNKNOWN: Final = Kind.UNKNOWN
_RUN: Final = Kind.RUN
_PLAIN: Final = Kind.PLAIN
_SHARED: Final = Kind.SHARED
_REFERENCE: Final = Kind.REFERENCE
_STALLED: Final = Kind.STALLED
_FIRST_TOKEN: Final = EventKind.FIRST_TOKEN


@final
class DecodeClockEngine:
    """From one change of the batch to the next: same events as ``stepwise``, at the cost of the changes alone."""

    def __init__(self, latency: LatencyModel, limits: EngineLimits) -> None:
        if limits.speculation is not None:
            raise ConfigError("decode_clock counts one token per iteration; make_engine says who speculates instead")
        self.limits = limits
        self.clocked = ClockedScheduler(limits, needs_max_context(latency), ordering_of(latency, limits))
        self._running = self.clocked.scheduler.running
        self._waiting = self.clocked.scheduler.waiting
        self._decodes = self.clocked.decodes
        self._host = self.clocked.pool.host
        self._latency = with_scheduling(latency, limits)
        self._needs_max_context = needs_max_context(latency)
        self._submitted = 0
        self._speed = 1.0
        self._pace = 1.0
        """The speed of what is planned or begun."""
        self._kind = _UNKNOWN
        self._begun = False
        self._boundary_s = 0.0
        """When what ``_kind`` names begins."""
        self._end_s = inf
        """When it ends, where that is known."""
        self._aborted: list[Sequence] | None = None
        """Running sequences that leave at the next boundary, and prefilled ones whose blocks return there."""
        self._busy_s = 0.0
        """Up to the boundary."""
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
        self._leaves(self.clocked.scheduler.kept.pop(request_id), now_s)
        self._replan(now_s)

    def _queue(self, job: Job, now_s: float, kv_tokens: int, ticket: object) -> Sequence | None:
        if not self._begun or self._end_s <= now_s:
            self._catch_up(now_s)
        sequence = make_sequence(job, self._submitted, now_s, kv_tokens, self.limits, self.clocked.pool)
        self._submitted += 1
        if sequence is None:
            self._events.append(EngineEvent(now_s, EventKind.REJECTED, job.request.request_id, ticket=ticket))
            return None
        sequence.ticket = ticket
        waiting = self._waiting
        if not waiting and not self._running:
            self._boundary_s = now_s
        waiting.append(sequence)
        # Only the head of the queue can be admitted: behind another that does not fit, a run goes on.
        if not self._begun or waiting[0] is sequence:
            self._replan(now_s)
        return sequence

    def abort(self, request_id: int, now_s: float) -> Progress:
        """Take a request out; a running one keeps its blocks until the iteration under way ends."""
        self._catch_up(now_s)
        sequence = self.clocked.scheduler.find(request_id)
        progress = self._progress_of(sequence, now_s)
        sequence.aborted = True
        if sequence not in self._running:
            self.clocked.scheduler.withdraw(sequence)
        else:
            self._leaves(sequence, now_s)
        self._replan(now_s)
        return progress

    def _leaves(self, sequence: Sequence, now_s: float) -> None:
        """Take a sequence out, at the end of the iteration under way."""
        if self._begun or now_s < self._boundary_s:
            self._aborted = [*(self._aborted or ()), sequence]
        else:
            self.clocked.remove(sequence)

    def next_event_s(self) -> float:
        """When the next event happens; for a step that depends on the cache: just after it begins."""
        if self._events:
            return self._events[0].time_s
        if self._begun:
            return self._end_s
        if self._aborted is not None:
            return self._boundary_s
        if self._kind is _UNKNOWN:
            if not self._running and not self._waiting:
                return inf
            self._plan()
        if self._kind >= _SHARED:
            return nextafter(self._boundary_s, inf) if self._kind is not _STALLED else inf
        return self._end_s

    def next_token_s(self, after_s: float) -> float:
        """When the first iteration that ends after ``after_s`` ends; of a step that depends on the cache: see above."""
        self._catch_up(after_s)
        if self._begun:
            if self._kind is not _RUN:
                return self._end_s
            done = self._iterations_done(after_s)
            end_s = self._boundary_s + self._run_s(done + 1)
            # Summing may put the end of the last iteration that counts as done a bit away from ``after_s``.
            return end_s if end_s > after_s else self._boundary_s + self._run_s(done + 2)
        if after_s < self._boundary_s:
            return self._boundary_s
        if not self._running and not self._waiting:
            return inf
        if self._kind is _UNKNOWN:
            self._plan()
        if self._kind >= _SHARED:
            return nextafter(self._boundary_s, inf) if self._kind is not _STALLED else inf
        return self._boundary_s + self._run_s(1) if self._kind is _RUN else self._end_s

    def advance(self, to_s: float) -> list[EngineEvent]:
        """Run up to and including ``to_s``; the events since the last call, in time order."""
        self._catch_up(to_s)
        events = self._events
        self._events = []
        return events

    def gauges(self, now_s: float) -> Gauges:
        """What a scraper would read at ``now_s``."""
        self._catch_up(now_s)
        begun = 0
        if self._begun:
            begun = self._iteration_under_way(now_s)[0] if self._kind is _RUN else 1
        usage = self.clocked.books.used_blocks(begun) / self.clocked.pool.total
        return _new(Gauges, (len(self._running), len(self._waiting), usage))

    def progress(self, now_s: float) -> tuple[list[int], list[int]]:
        """Request ids on this engine and output tokens of each by ``now_s``."""
        self._catch_up(now_s)
        clock = self._clock_at(now_s)
        here = self.clocked.scheduler.here()
        return [sequence.request_id for sequence in here], [
            sequence.base + clock if sequence.leaves else sequence.generated for sequence in here
        ]

    def streams(self, now_s: float) -> tuple[int, list[StreamCount]]:
        """The decode clock by ``now_s``, and the counts of who joined or left the decoding since the last call."""
        self._catch_up(now_s)
        changed = self._decodes.changed
        if changed is None:
            # Nobody has asked before: from now on it is written down.
            changed = self.clocked.scheduler.here()
        self._decodes.changed = []
        counts: list[StreamCount] = []
        for sequence in changed:
            if not sequence.aborted:
                decoding = sequence.leaves != 0
                tokens = sequence.base if decoding else sequence.generated
                counts.append(_new(StreamCount, (sequence.request_id, tokens, decoding, sequence.ticket)))
        return self._clock_at(now_s), counts

    def set_speed(self, factor: float, now_s: float) -> None:
        """From the next iteration on, iterations take ``1 / factor`` of their normal time."""
        self._catch_up(now_s)
        self._replan(now_s)
        self._speed = factor

    def busy_s(self, now_s: float) -> float:
        """Seconds spent in iterations up to ``now_s``."""
        self._catch_up(now_s)
        if self._begun or now_s < self._boundary_s:
            return self._busy_s + now_s - self._boundary_s
        return self._busy_s

    def power_s(self, now_s: float) -> float:
        """As ``busy_s``: who slows a card runs on the reference."""
        return self.busy_s(now_s)

    def counts(self) -> dict[str, int]:
        """What host memory did since the engine began; empty without it."""
        return {} if self._host is None else self._host.counts(self.limits.block_size)

    # --- time ----------------------------------------------------------------------------------------------------

    def _catch_up(self, to_s: float) -> None:
        while True:
            if self._begun:
                if self._end_s > to_s:
                    return
                self._complete()
            if to_s < self._boundary_s:
                return
            if self._aborted is not None:
                self._drop_aborted(self._aborted)
            if to_s == self._boundary_s or not (self._running or self._waiting):
                return
            if self._kind is _UNKNOWN:
                self._plan()
            if self._kind is _STALLED:
                return
            # Time has moved past the boundary: nobody can join any more.
            self._begun = True
            if self._kind is _PLAIN:
                self.clocked.begin_plain()
            elif self._kind is not _RUN:
                self._begin_unknown()

    def _plan(self) -> None:
        clocked = self.clocked
        self._pace = self._speed
        self._kind = kind = clocked.plan()
        if kind is _RUN:
            self._end_s = self._boundary_s + self._run_s(clocked.iterations)
        elif kind is _PLAIN:
            self._end_s = self._boundary_s + self._latency.iteration_s(clocked.batch) / self._pace

    def _begin_unknown(self) -> None:
        """Begin a step of which nothing was known before."""
        clocked = self.clocked
        if self._kind is _SHARED:
            clocked.begin_shared()
        else:
            self._begun = clocked.begin_reference()
            self._report(clocked.put_off, self._boundary_s)
            if not self._begun:
                # It only put sequences off, which takes no time.
                self._kind = _UNKNOWN
                return
        iteration_s = self._latency.iteration_s(clocked.batch) / self._pace
        self._end_s = self._boundary_s + (iteration_s if self._host is None else self._host.iteration_s(iteration_s))

    def _complete(self) -> None:
        """What was begun has ended."""
        kind, clocked = self._kind, self.clocked
        end_s = self._end_s
        self._busy_s += end_s - self._boundary_s
        self._boundary_s = end_s
        self._begun = False
        self._kind = _UNKNOWN
        if kind is _RUN:
            happened = clocked.end_run(clocked.iterations)
        elif kind is _REFERENCE:
            happened = clocked.end_reference()
        else:
            happened = clocked.end_step()
        if happened:
            self._report(happened, end_s)

    def _report(self, happened: list[Happening], time_s: float) -> None:
        for kind, sequence in happened:
            cached_tokens = sequence.hit_tokens if kind is _FIRST_TOKEN else 0
            row = (time_s, kind, sequence.request_id, sequence.generated, cached_tokens, sequence.ticket)
            self._events.append(_new(EngineEvent, row))

    def _drop_aborted(self, aborted: list[Sequence]) -> None:
        if len(aborted) > 1:
            # Who was released, then the others in the order of the batch, as the reference does.
            gone = set(aborted)
            released = [sequence for sequence in aborted if not sequence.aborted]
            aborted = released + [sequence for sequence in self._running if sequence in gone]
        for sequence in aborted:
            self.clocked.remove(sequence)
        self._aborted = None
        self._kind = _UNKNOWN

    def _replan(self, now_s: float) -> None:
        """Something changed at ``now_s`` that the next iteration must see."""
        if not self._begun:
            if self._kind is _STALLED and now_s > self._boundary_s:
                self._boundary_s = now_s
            self._kind = _UNKNOWN
        elif self._kind is _RUN:
            iterations, boundary_s = self._iteration_under_way(now_s)
            if iterations < self.clocked.iterations:
                # Go to the boundary of the iteration under way: nobody leaves there.
                self._busy_s += boundary_s - self._boundary_s
                self._boundary_s = boundary_s
                self._decodes.run(iterations)
                self._begun = False
                self._kind = _UNKNOWN

    def _run_s(self, iterations: int) -> float:
        decodes = self._decodes
        longest = decodes.max_context_tokens() if self._needs_max_context else 0
        return self._latency.decode_run_s(decodes.size, decodes.context_tokens, longest, iterations) / self._pace

    def _iterations_done(self, now_s: float) -> int:
        """Iterations of the run that have ended by ``now_s``."""
        decodes = self._decodes
        longest = decodes.max_context_tokens() if self._needs_max_context else 0
        span_s = (now_s - self._boundary_s) * self._pace
        return self._latency.decode_run_iterations(decodes.size, decodes.context_tokens, longest, span_s)

    def _iteration_under_way(self, now_s: float) -> tuple[int, float]:
        """Iterations of the run that began before ``now_s``, and when the last of them ends."""
        decodes, latency, pace, start_s = self._decodes, self._latency, self._pace, self._boundary_s
        size, context_tokens = decodes.size, decodes.context_tokens
        longest = decodes.max_context_tokens() if self._needs_max_context else 0
        done = latency.decode_run_iterations(size, context_tokens, longest, (now_s - start_s) * pace)
        run_s = latency.decode_run_s(size, context_tokens, longest, done + 1) / pace
        end_s = start_s + run_s
        # An iteration that ends exactly now has no successor yet. Iterations of a run are alike, so that can only be
        # where the next end is about one iteration away.
        if (end_s - now_s) * (done + 1) > 0.9 * run_s:
            ended_s = start_s + latency.decode_run_s(size, context_tokens, longest, done) / pace
            if ended_s >= now_s:
                return done, ended_s
        return done + 1, end_s

    def _clock_at(self, now_s: float) -> int:
        """The decode clock as an observer at ``now_s`` sees it."""
        clock = self._decodes.clock
        if self._begun:
            return clock + self._iterations_done(now_s) if self._kind is _RUN else clock
        return clock - 1 if now_s < self._boundary_s else clock

    def _progress_of(self, sequence: Sequence, now_s: float) -> Progress:
        if sequence.leaves:
            generated = sequence.base + self._clock_at(now_s)
            return Progress(generated, sequence.prompt + generated - 1, sequence.hit_tokens)
        in_flight = self.clocked.in_flight(sequence) if self._begun else 0
        return Progress(sequence.generated, sequence.computed - in_flight, sequence.hit_tokens)


# Not as a decorator: a decorated class is not compiled to a native one.
register("engine", "decode_clock", config=EngineConfig)(DecodeClockEngine)
