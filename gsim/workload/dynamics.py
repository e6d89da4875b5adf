"""A load that changes while the run goes on: steps, bursts and days of the request rate, drift of the output lengths.

They transform the sessions of any trace, in order of arrival, and keep requests and random draws as they are: a run
with a burst is paired with the run without.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from math import inf

from gsim.core import ConfigError, Job, Session
from gsim.core.construct import FloatOrInf
from gsim.workload.arrivals import rate_curve


@dataclass(frozen=True)
class LoadStep:
    """From ``at_s`` on, for ``for_s`` seconds, sessions arrive ``factor`` times as fast."""

    at_s: float = 60.0
    """When the step begins."""
    for_s: FloatOrInf = inf
    """How long it lasts (a short one is a burst; inf: to the end)."""
    factor: float = 2.0
    """Of the rate: the gaps between arrivals become 1 / ``factor``."""

    def __post_init__(self) -> None:
        if not 0 <= self.at_s < inf:
            raise ConfigError(f"dynamics.at_s must be 0 or more, not {self.at_s}")
        if not self.for_s > 0:
            raise ConfigError(f"dynamics.for_s must be greater than 0, not {self.for_s}")
        if not 0 < self.factor < inf:
            raise ConfigError(f"dynamics.factor must be greater than 0, not {self.factor}")

    def warp(self, arrival_s: float) -> float:
        """The new time of an arrival."""
        late_s = arrival_s - self.at_s
        if late_s <= 0:
            return arrival_s
        # Arrivals that the step takes up: those of for_s * factor seconds of the original trace.
        if late_s <= self.for_s * self.factor:
            return self.at_s + late_s / self.factor
        return arrival_s - self.for_s * (self.factor - 1.0)

    def apply(self, sessions: Iterator[Session]) -> Iterator[Session]:
        """The sessions at their new times (later turns follow their predecessors, as before)."""
        for session in sessions:
            yield _moved(session, self.warp(session.arrival_s))


@dataclass(frozen=True)
class RateCurve:
    """The request rate follows a recorded curve around the trace's own rate, faster or slower than it was recorded."""

    curve: str = "alibaba_r1_day"
    """A curve that gsim brings (``gsim/workload/curves``), or a CSV file with columns ts, rps."""
    over_s: float = 86_400.0
    """Seconds that the whole curve takes here; then it begins again. Arrivals alone are compressed: requests take as
    long as they do, so where a day takes an hour the rate changes 24 times as fast as it did."""

    def __post_init__(self) -> None:
        if not 0 < self.over_s < inf:
            raise ConfigError(f"dynamics.over_s must be greater than 0, not {self.over_s}")

    @cached_property
    def _arrived(self) -> tuple[float, ...]:
        """What of a round's arrivals has come by each edge of the curve's windows, in seconds at the mean rate."""
        rates, _ = rate_curve(self.curve)
        step_s = self.over_s / float(rates.sum())
        return (0.0, *accumulate(float(rate) * step_s for rate in rates))

    def rates(self) -> tuple[float, ...]:
        """The rate in each window of the curve, over its mean."""
        edges = self._arrived
        count = len(edges) - 1
        return tuple((after - before) * count / self.over_s for before, after in pairwise(edges))

    def warp(self, arrival_s: float) -> float:
        """The new time of an arrival: when as much has arrived by the curve as by the trace's own rate."""
        edges = self._arrived
        rounds, part_s = divmod(arrival_s, self.over_s)
        at = min(bisect_right(edges, part_s), len(edges) - 1) - 1
        share = (part_s - edges[at]) / (edges[at + 1] - edges[at]) if edges[at + 1] > edges[at] else 0.0
        return (rounds + (at + share) / (len(edges) - 1)) * self.over_s

    def apply(self, sessions: Iterator[Session]) -> Iterator[Session]:
        """The sessions at their new times (later turns follow their predecessors, as before)."""
        for session in sessions:
            yield _moved(session, self.warp(session.arrival_s))


@dataclass(frozen=True)
class Drift:
    """Outputs grow or shrink from ``at_s`` on: what a predictor that was trained before does not know."""

    at_s: float = 60.0
    """When the drift begins."""
    over_s: float = 0.0
    """How long it takes to reach ``factor`` (linearly); 0: at once."""
    factor: float = 1.5
    """Of the output length, in the end. ``max_output_tokens`` still holds."""
    task: str | None = None
    """Only this task class drifts; None: all."""

    def __post_init__(self) -> None:
        for name in ("at_s", "over_s"):
            if not 0 <= getattr(self, name) < inf:
                raise ConfigError(f"dynamics.{name} must be 0 or more, not {getattr(self, name)}")
        if not 0 < self.factor < inf:
            raise ConfigError(f"dynamics.factor must be greater than 0, not {self.factor}")

    def factor_at(self, arrival_s: float) -> float:
        """What an output's length is multiplied by."""
        late_s = arrival_s - self.at_s
        if late_s < 0:
            return 1.0
        share = 1.0 if self.over_s == 0 else min(late_s / self.over_s, 1.0)
        return 1.0 + share * (self.factor - 1.0)

    def apply(self, sessions: Iterator[Session]) -> Iterator[Session]:
        """The sessions with drifted outputs (by the arrival of their session; prompts stay as recorded)."""
        for session in sessions:
            factor = self.factor_at(session.arrival_s)
            if factor == 1.0:
                yield session
            else:
                yield session._replace(jobs=tuple(self._drifted(job, factor) for job in session.jobs))

    def _drifted(self, job: Job, factor: float) -> Job:
        if self.task is not None and job.request.task != self.task:
            return job
        tokens = min(max(round(job.output_tokens * factor), 1), job.request.max_output_tokens)
        return job._replace(output_tokens=tokens)


def _moved(session: Session, arrival_s: float) -> Session:
    """The session at another time, with the jobs that wait for nothing."""
    shift_s = arrival_s - session.arrival_s
    if shift_s == 0:
        return session
    jobs = tuple(job if job.after else job.arriving(job.request.arrival_s + shift_s) for job in session.jobs)
    return session._replace(arrival_s=session.arrival_s + shift_s, jobs=jobs)
