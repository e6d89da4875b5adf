"""vLLM's loop with asynchronous scheduling, as it stands: iterations are scheduled one ahead of the GPU.

While iteration k computes, k + 1 is scheduled, counting on k's tokens; so what arrives during k runs in k + 2 at the
earliest, and what finishes in k gives its blocks back after k + 1 was scheduled. The engines of ``gsim.engine`` leave
this out (it costs them their speed and a fraction of a percent of end-to-end latency); against a real engine's
timestamps, where a lightly loaded first token takes few iterations, it counts. Source: vLLM 0.19,
``v1/engine/core.py`` (``step_with_batch_queue``, a queue of two).
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gsim.core.errors import InputError
from gsim.core.protocols import LatencyModel
from gsim.core.request import Content, Job
from gsim.engine import EngineLimits
from gsim.engine.kv.block_pool import BlockPool
from gsim.engine.scheduler import Scheduler, Step
from gsim.engine.sequence import Sequence, make_sequence
from gsim.validation.fork import Copies

Floats = NDArray[np.float64]


class Iteration(NamedTuple):
    """One iteration as it ran."""

    start_s: float
    end_s: float
    sequences: int
    tokens: int
    chunks: int


class State(NamedTuple):
    """What an iteration left when its tokens were there."""

    time_s: float
    blocks: int
    """KV blocks in use."""
    running: int
    waiting: int


@dataclass(frozen=True)
class Replay:
    """What happened to each job, and every iteration. NaN where it did not happen."""

    queued_s: Floats
    """When the loop took the request from its inbox."""
    scheduled_s: Floats
    first_token_s: Floats
    last_token_s: Floats
    preemptions: NDArray[np.int64]
    iterations: list[Iteration]
    states: list[State]


class _Flight(NamedTuple):
    """An iteration on its way: its tokens belong to these sequences when it ends."""

    end_s: float
    yields: list[Sequence]


def replay(
    jobs: Rows[Job],
    latency: LatencyModel,
    limits: EngineLimits,
    first_launch_s: float = 0.0,
    until_s: float = math.inf,
    arrival_s: float = 0.0,
) -> Replay:
    """Run ``jobs`` (in order of arrival, request ids from 0) through one engine.

    ``first_launch_s``: the very first iteration keeps the loop busy for so long before it computes (a cold server).
    ``until_s``: stop there; what would have happened later stays NaN. ``arrival_s``: each arrival during an iteration
    keeps the next one from starting for so long (an API server on the loop's core). Raises ``InputError`` for a job
    that can never run.
    """
    return Loop(jobs, latency, limits, first_launch_s, arrival_s).run(until_s)


class Loop:
    """The loop, to be run on as far as wanted, and forked."""

    def __init__(
        self,
        jobs: Rows[Job],
        latency: LatencyModel,
        limits: EngineLimits,
        first_launch_s: float,
        arrival_s: float = 0.0,
    ) -> None:
        self.arrival_s = arrival_s
        self.held_s = 0.0
        """What arrivals since the last launch keep the next one from starting."""
        self.jobs = jobs
        self.latency = latency
        self.limits = limits
        self.first_launch_s = first_launch_s
        self.scheduler = Scheduler(limits, BlockPool(limits.kv_blocks, limits.block_size, limits.prefix_caching))
        self.flights: deque[_Flight] = deque()
        self.now_s = 0.0
        self.gpu_free_s = 0.0
        self.arrived = 0
        self.done = 0
        self.tokens = [0] * len(jobs)
        """Output tokens that have arrived, by request."""
        columns = np.full((4, len(jobs)), np.nan)
        preemptions = np.zeros(len(jobs), dtype=np.int64)
        self.result = Replay(columns[0], columns[1], columns[2], columns[3], preemptions, [], [])

    def run(self, until_s: float) -> Replay:
        """Go on until every job is done or ``until_s`` has passed."""
        while self.done < len(self.jobs) and self.now_s <= until_s:
            self._take_arrivals()
            step = self.scheduler.schedule()
            for sequence in step.rejected:
                raise InputError(
                    f"request {sequence.request_id} outgrows the KV cache of {self.limits.kv_blocks} blocks"
                )
            for sequence in step.preempted:
                self.result.preemptions[sequence.request_id] += 1
            if step.scheduled:
                self._launch(step)
                if len(self.flights) < 2:
                    continue
            if self.flights:
                self._land(self.flights.popleft())
            elif not step.preempted:
                self._sleep()
        return self.result

    def fork(self) -> Loop:
        """The same loop in the same state, to be run on apart."""
        copies, result = Copies(), self.result
        fork = copy.copy(self)
        fork.scheduler = copies.scheduler(self.scheduler)
        fork.flights = deque(
            _Flight(flight.end_s, [copies.sequence(sequence) for sequence in flight.yields]) for flight in self.flights
        )
        fork.tokens = self.tokens.copy()
        fork.result = Replay(
            result.queued_s.copy(),
            result.scheduled_s.copy(),
            result.first_token_s.copy(),
            result.last_token_s.copy(),
            result.preemptions.copy(),
            result.iterations.copy(),
            result.states.copy(),
        )
        return fork

    def rename(self, request_id: int, content: Content) -> bool:
        """Give a request other contents; False where it has been admitted already."""
        job = self.jobs[request_id]
        job = job._replace(request=job.request._replace(content=content))
        if request_id >= self.arrived:
            self.jobs = [*self.jobs[:request_id], job, *self.jobs[request_id + 1 :]]
            return True
        for sequence in self.scheduler.waiting:
            if sequence.request_id == request_id and sequence.preemptions == 0:
                renamed = make_sequence(job, request_id, sequence.submitted_s, 0, self.limits, self.scheduler.pool)
                assert renamed is not None
                sequence.hold = renamed.hold
                return True
        return False

    def _take_arrivals(self) -> None:
        while self.arrived < len(self.jobs) and self.jobs[self.arrived].request.arrival_s <= self.now_s:
            job = self.jobs[self.arrived]
            sequence = make_sequence(job, self.arrived, self.now_s, 0, self.limits, self.scheduler.pool)
            if sequence is None:
                raise InputError(f"request {job.request.request_id} does not fit: see max_model_len and the KV cache")
            self.result.queued_s[self.arrived] = self.now_s
            self.scheduler.waiting.append(sequence)
            self.arrived += 1
            if self.flights:
                self.held_s += self.arrival_s

    def _sleep(self) -> None:
        if self.arrived == len(self.jobs):
            raise InputError("requests are left that can never be admitted: the KV cache is too small")
        self.now_s = max(self.now_s, self.jobs[self.arrived].request.arrival_s)

    def _launch(self, step: Step) -> None:
        """Send an iteration to the GPU, counting on its tokens; the last token of a request is not counted on."""
        yields = []
        scheduled_s = self.result.scheduled_s
        for sequence in step.scheduled:
            if np.isnan(scheduled_s[sequence.request_id]):
                scheduled_s[sequence.request_id] = self.now_s
            if sequence.computed >= sequence.length:
                yields.append(sequence)
                if sequence.generated + 1 < sequence.stop:
                    sequence.generated += 1
        if not self.result.iterations:
            self.now_s += self.first_launch_s
        batch = step.batch(True)
        start_s = max(self.now_s, self.gpu_free_s) + self.held_s
        self.held_s = 0.0
        self.gpu_free_s = start_s + self.latency.iteration_s(batch)
        self.flights.append(_Flight(self.gpu_free_s, yields))
        self.result.iterations.append(
            Iteration(start_s, self.gpu_free_s, batch.sequences, batch.tokens, len(batch.chunks))
        )

    def _land(self, flight: _Flight) -> None:
        """An iteration's tokens are there."""
        self.now_s = max(self.now_s, flight.end_s)
        result = self.result
        for sequence in flight.yields:
            number = sequence.request_id
            if np.isnan(result.first_token_s[number]):
                result.first_token_s[number] = self.now_s
            self.tokens[number] += 1
            if self.tokens[number] == sequence.stop:
                result.last_token_s[number] = self.now_s
                self.done += 1
                if sequence in self.scheduler.running:
                    self.scheduler.finish(sequence)
                else:
                    self.scheduler.withdraw(sequence)
        scheduler = self.scheduler
        used = scheduler.pool.total - scheduler.pool.free
        result.states.append(State(self.now_s, used, len(scheduler.running), len(scheduler.waiting)))
