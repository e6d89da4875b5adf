"""The reference engine: one iteration at a time, every sequence touched in each."""

from __future__ import annotations

from math import inf, nextafter

from gsim.core import Batch, Chunk, EngineEvent, EventKind, Gauges, Job, LatencyModel, Progress, register
from gsim.engine.limits import EngineConfig, EngineLimits
from gsim.engine.scheduler import Iteration, Scheduler
from gsim.engine.sequence import Sequence


def batch_of(iteration: Iteration) -> Batch:
    """What an iteration computes, as the latency model is asked (call it before the tokens are counted as computed)."""
    chunks: list[Chunk] = []
    decodes = context = longest = 0
    for sequence, tokens in iteration.scheduled:
        before = sequence.computed - tokens
        if tokens == 1:
            decodes += 1
            context += before
            longest = max(longest, before)
        else:
            chunks.append(Chunk(tokens, before))
    return Batch(tuple(chunks), decodes, context, longest)


def rejects(job: Job, limits: EngineLimits) -> bool:
    """Whether an engine refuses a request at its door: no room for one output token, or more prompt than KV."""
    prompt_tokens = job.request.prompt_tokens
    return prompt_tokens >= limits.max_model_len or -(-prompt_tokens // limits.block_size) > limits.kv_blocks


@register("engine", "stepwise", config=EngineConfig)
class Stepwise:
    """One iteration at a time, as vLLM runs: slow, and written to be read.

    An iteration starts when the one before ends, or when work comes to an idle engine. It is formed only when time
    moves *past* its start, so everything submitted at that very instant is in it.
    """

    def __init__(self, latency: LatencyModel, limits: EngineLimits) -> None:
        self.scheduler = Scheduler(limits)
        self._latency = latency
        self._limits = limits
        self._sequences: dict[int, Sequence] = {}
        self._submitted = 0
        self._speed = 1.0
        self._busy_s = 0.0
        self._iteration: Iteration | None = None
        self._start_s = 0.0
        """Start of the present iteration, or the earliest start of the next one."""
        self._end_s = 0.0
        self._events: list[EngineEvent] = []

    def submit(self, job: Job, now_s: float, kv_tokens: int = 0) -> None:
        """Queue a job."""
        self._run(now_s)
        request_id = job.request.request_id
        if rejects(job, self._limits):
            self._events.append(EngineEvent(now_s, EventKind.REJECTED, request_id))
            return
        if not self._sequences:
            self._start_s = now_s
        sequence = Sequence(job, self._submitted, self._limits.max_model_len, kv_tokens)
        self._submitted += 1
        self._sequences[request_id] = sequence
        self.scheduler.add(sequence)

    def abort(self, request_id: int, now_s: float) -> Progress:
        """Take a request out; an iteration under way still takes its time."""
        self._run(now_s)
        sequence = self._sequences.pop(request_id)
        computed = sequence.computed
        self.scheduler.remove(sequence)
        return Progress(sequence.generated, min(computed, sequence.known))

    def next_event_s(self) -> float:
        """The end of the iteration, whether or not anything can be observed then."""
        if self._events:
            return self._events[0].time_s
        if self._iteration is not None:
            return self._end_s
        # An iteration that is not formed yet: any instant after its start will do.
        return nextafter(self._start_s, inf) if self._sequences else inf

    def advance(self, to_s: float) -> list[EngineEvent]:
        """Run up to and including ``to_s``."""
        self._run(to_s)
        events, self._events = self._events, []
        return events

    def gauges(self, now_s: float) -> Gauges:
        """Running, waiting and KV usage."""
        self._run(now_s)
        return Gauges(len(self.scheduler.running), len(self.scheduler.waiting), self.scheduler.cache.usage)

    def progress(self, now_s: float) -> tuple[list[int], list[int]]:
        """Ids and output tokens of all requests here."""
        self._run(now_s)
        return list(self._sequences), [sequence.generated for sequence in self._sequences.values()]

    def set_speed(self, factor: float, now_s: float) -> None:
        """Iterations formed from now on take ``1 / factor`` of their time."""
        self._run(now_s)
        self._speed = factor

    def busy_s(self, now_s: float) -> float:
        """Seconds in iterations."""
        self._run(now_s)
        under_way = now_s - self._start_s if self._iteration is not None else 0.0
        return self._busy_s + under_way

    # ---------------------------------------------------------------------------------------------------- the loop
    def _run(self, to_s: float) -> None:
        while True:
            if self._iteration is not None:
                if self._end_s > to_s:
                    return
                self._complete()
            if not self._sequences or self._start_s >= to_s:
                return
            self._form()

    def _form(self) -> None:
        iteration = self.scheduler.step()
        time_s = self._start_s
        for sequence in iteration.preempted:
            self._events.append(EngineEvent(time_s, EventKind.PREEMPTED, sequence.request_id, sequence.generated))
        for sequence in iteration.stuck:
            del self._sequences[sequence.request_id]
            self._events.append(EngineEvent(time_s, EventKind.REJECTED, sequence.request_id, sequence.generated))
        if not iteration.scheduled:
            # Only when a sequence was stuck alone: what waits is scheduled at once.
            return
        duration_s = self._duration_s(batch_of(iteration))
        self._iteration = iteration
        self._end_s = time_s + duration_s

    def _duration_s(self, batch: Batch) -> float:
        gpu_s = self._latency.iteration_s(batch) / self._speed
        schedule_s = self._limits.schedule_s
        return max(gpu_s, schedule_s) if self._limits.async_scheduling else gpu_s + schedule_s

    def _complete(self) -> None:
        iteration = self._iteration
        self._iteration = None
        time_s = self._end_s
        self._busy_s += time_s - self._start_s
        self._start_s = time_s
        if iteration is None:
            return
        for sequence in self.scheduler.complete(iteration):
            if not sequence.started:
                sequence.started = True
                event = EngineEvent(
                    time_s, EventKind.FIRST_TOKEN, sequence.request_id, sequence.generated, sequence.cached_tokens
                )
                self._events.append(event)
            if sequence.generated == sequence.limit:
                del self._sequences[sequence.request_id]
                self._events.append(EngineEvent(time_s, EventKind.FINISHED, sequence.request_id, sequence.generated))
