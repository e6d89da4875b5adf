"""What an assignment is worth on the real engines: each instance replayed on its own, as the simulator would."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from gsim.core import ConfigError, EventKind, Job, LatencyModel
from gsim.engine import EngineLimits, make_engine

#: Request id -> instance's index; None: refused. Requests that are not named are refused, too.
Assignment = Mapping[int, int | None]
#: Which requests are good under an assignment.
Judge = Callable[[Assignment], set[int]]


class EngineJudge:
    """Replays an assignment on one engine per instance, and remembers what it has seen of each instance.

    Without migration, and with arrivals that are known, instances do not affect one another: a change of an
    assignment costs the replay of the instances that it touches. For closed loops the simulator itself must judge.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        instances: Sequence[tuple[LatencyModel, EngineLimits]],
        engine: str = "decode_clock",
    ) -> None:
        late = next((job.request.request_id for job in jobs if job.after), None)
        if late is not None:
            raise ConfigError(
                f"request {late} arrives when others end: instances cannot be replayed one by one; "
                "judge with the simulator"
            )
        self.replays = 0
        self._jobs = {job.request.request_id: job for job in jobs}
        self._instances = list(instances)
        self._engine = engine
        self._seen: list[dict[frozenset[int], frozenset[int]]] = [{} for _ in instances]

    def __call__(self, assignment: Assignment) -> set[int]:
        """The request ids that finish inside their SLO."""
        parts: list[list[int]] = [[] for _ in self._instances]
        for request_id, instance in assignment.items():
            if instance is not None:
                parts[instance].append(request_id)
        good: set[int] = set()
        for index, part in enumerate(parts):
            good |= self.good_on(index, part)
        return good

    def good_on(self, index: int, request_ids: Iterable[int]) -> frozenset[int]:
        """The good ones of the requests that run on one instance."""
        key = frozenset(request_ids)
        seen = self._seen[index]
        if key not in seen:
            if len(seen) > 2000:
                seen.clear()
            seen[key] = self._replay(index, key)
        return seen[key]

    def _replay(self, index: int, request_ids: frozenset[int]) -> frozenset[int]:
        self.replays += 1
        latency, limits = self._instances[index]
        engine = make_engine(self._engine, latency, limits)
        jobs = [self._jobs[request_id] for request_id in request_ids]
        jobs.sort(key=lambda job: (job.request.arrival_s, job.request.request_id))
        events = []
        for job in jobs:
            events += engine.advance(job.request.arrival_s)
            engine.submit(job, job.request.arrival_s)
        while (next_s := engine.next_event_s()) < math.inf:
            events += engine.advance(next_s)
        return frozenset(
            event.request_id
            for event in events
            if event.kind is EventKind.FINISHED
            and event.time_s - self._jobs[event.request_id].request.arrival_s
            <= self._jobs[event.request_id].request.slo_s
        )
