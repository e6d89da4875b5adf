"""A simulated instance that serves answers: who is told of which token, and when."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from math import inf

from prometheus_client import Histogram

from gsim.cluster import InstanceSpec
from gsim.cluster.instance import Instance
from gsim.core import EngineEvent, EventKind, Gauges, Job, Request
from gsim.emulate.answer import Answer
from gsim.emulate.metrics import Metrics
from gsim.gateway.clock import Alarm
from gsim.live.contents import Contents
from gsim.live.pace import Pace
from gsim.live.waiter import Waiter

#: A time of the engine's is asked for this much later: sums may put it a bit away from itself.
_AFTER_S = 1e-6


class Served:
    """One instance on a real-time clock: the same object as in a simulation, with a listener for every token.

    A first token and an end are the instance's own events. In between, an alarm rings at the end of every iteration,
    and one look at the engine's decode clock says how many tokens every answer has. Where this process is late, one
    look covers several iterations: answers then come in larger chunks, not later and later.
    """

    def __init__(self, pace: Pace, spec: InstanceSpec, model: str, late: Histogram) -> None:
        self.spec = spec
        self.limits = spec.limits
        self._pace = pace
        self._clock = pace.clock
        self._instance = Instance(pace.clock, 0, spec, self._told)
        self._answers: dict[int, Answer] = {}
        self._decoding: dict[int, Answer] = {}
        self._numbers = count()
        self._alarm = Alarm(pace.clock, self._look)
        self.contents = Contents(max(4 * self.limits.kv_blocks * self.limits.block_size, 1 << 20))
        self.metrics = Metrics(model, self.limits, self.gauges, late)

    def __len__(self) -> int:
        """Answers under way."""
        return len(self._answers)

    def submit(
        self, prompts: Sequence[list[int]], outputs: Sequence[int], most: int, priority: int, waiter: Waiter
    ) -> list[Answer]:
        """Send prompts to the engine; ``outputs``: where each ends by itself, ``most``: what the client allows."""
        return self._pace.do(self._submit, prompts, outputs, most, priority, waiter)

    def _submit(
        self, prompts: Sequence[list[int]], outputs: Sequence[int], most: int, priority: int, waiter: Waiter
    ) -> list[Answer]:
        now_s = self._clock.now
        answers = []
        for index, (ids, tokens) in enumerate(zip(prompts, outputs, strict=True)):
            number = next(self._numbers)
            content = self.contents.pieces(ids)
            request = Request(number, now_s, len(ids), most, inf, content=content, priority=priority)
            job = Job(request, tokens, self.contents.new_segment())
            answer = Answer(job, index, ids, waiter, now_s)
            self._answers[number] = answer
            self._instance.send(job, now_s, 0, answer)
            answers.append(answer)
        return answers

    def abort(self, answers: Sequence[Answer]) -> None:
        """Take out of the engine what is not over."""
        self._pace.do(self._abort, answers)

    def _abort(self, answers: Sequence[Answer]) -> None:
        now_s = self._clock.now
        self._instance.sync(now_s)
        for answer in answers:
            if not answer.done and answer.job.request.request_id in self._answers:
                self._instance.abort(answer.job.request.request_id, now_s)
                self._end(answer, "abort")

    def gauges(self) -> Gauges:
        """What the engine shows now."""
        return self._instance.gauges(self._clock.now)

    def set_speed(self, factor: float) -> None:
        """From the next iteration on iterations take 1 / ``factor`` of their time."""
        self._pace.do(lambda: self._instance.set_speed(factor, self._clock.now))

    def crash(self) -> None:
        """Lose everything."""
        self._pace.do(self._crash)

    def _crash(self) -> None:
        self._instance.forget(self._clock.now)
        for answer in list(self._answers.values()):
            self._end(answer, "abort")

    # ------------------------------------------------------------------------------------------ what the engine tells
    def _told(self, _index: int, event: EngineEvent) -> None:
        answer = event.ticket
        assert isinstance(answer, Answer)
        if event.kind is EventKind.FIRST_TOKEN:
            answer.first_s = event.time_s
            answer.cached_tokens = event.cached_tokens
            answer.tokens, answer.last_s = 1, event.time_s
            self.metrics.first_token(answer)
            answer.waiter.wake()
            if self._alarm.at_s == inf:
                self._wait()
        elif event.kind is EventKind.FINISHED:
            self._count(answer, event.generated_tokens, event.time_s)
            self._end(answer, "length" if answer.tokens >= answer.job.request.max_output_tokens else "stop")
        elif event.kind is EventKind.PREEMPTED:
            self.metrics.preemptions.inc()
        else:
            self._end(answer, "abort")

    def _end(self, answer: Answer, reason: str) -> None:
        number = answer.job.request.request_id
        self._answers.pop(number, None)
        self._decoding.pop(number, None)
        answer.done, answer.reason = True, reason
        self.metrics.ended(answer)
        answer.waiter.wake()

    def forget(self, answer: Answer) -> None:
        """All of an answer was sent, or nobody wants it: later prompts that hold it find it in the cache."""
        self.contents.generated(answer.prompt_ids, answer.output_ids, answer.segment)

    def _wait(self) -> None:
        """Until the next iteration is over, or until now where that has passed."""
        due_s = self._instance.next_token_s(self._clock.now)
        if due_s < inf:
            due_s = max(due_s + _AFTER_S, self._pace.now_s())
        self._alarm.set(due_s - self._clock.now)

    def _look(self) -> None:
        now_s = self._clock.now
        clock, changed = self._instance.streams(now_s)
        for change in changed:
            answer = change.ticket
            if not isinstance(answer, Answer) or answer.done:
                continue
            if change.decoding:
                answer.base = change.tokens
                self._decoding[change.request_id] = answer
            else:
                self._decoding.pop(change.request_id, None)
                self._count(answer, change.tokens, now_s)
        for answer in self._decoding.values():
            self._count(answer, answer.base + clock, now_s)
        self._wait()

    def _count(self, answer: Answer, tokens: int, now_s: float) -> None:
        fresh = tokens - answer.tokens
        if fresh > 0 and answer.tokens:
            self.metrics.more_tokens(fresh, now_s - answer.last_s)
            answer.tokens, answer.last_s = tokens, now_s
            answer.more()
