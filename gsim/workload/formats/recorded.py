"""What all traces read from files share: how their plays become sessions of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import isfinite, isnan, nan

import numpy as np

from gsim.core import ConfigError, Session, Streams, TraceError
from gsim.workload.arrivals import ArrivalConfig, check_rate
from gsim.workload.play import Play
from gsim.workload.replay import cut, session_of
from gsim.workload.report import Report, RowErrors
from gsim.workload.slo import SloRule


@dataclass(frozen=True, kw_only=True)
class Recorded(ABC):
    """A trace file (gz too) and how it is replayed. Formats say how to read it (``plays``), and nothing else."""

    path: str
    """The file (for some formats: or a folder of files)."""
    rate_per_s: float | None = None
    """Mean request rate to rescale time to (recorded times) or to replay at (other arrivals); null or 0: as recorded.
    Gaps inside a session are not rescaled."""
    rate_scale: float | None = None
    """Replay this many times faster than recorded (instead of ``rate_per_s``)."""
    limit: int | None = None
    """Stop after so many requests (the session that reaches it is replayed whole)."""
    on_error: str = "error"
    """``error``: a bad row refuses the trace; ``skip``: bad rows are left out, counted and reported."""
    max_output_tokens: int = 16384
    """What each client asks for at most: it reveals nothing of the true length. Longer outputs are cut to it."""
    max_context_tokens: int | None = None
    """Leave out requests (with what depends on them) whose prompt and output together are longer."""
    arrivals: ArrivalConfig = field(default_factory=lambda: ArrivalConfig("recorded"))
    """When sessions arrive: ``recorded``, or another process in place of the file's own times."""
    report: Report = field(init=False, default_factory=Report, compare=False, repr=False)
    """What the latest pass over the file found."""

    def __post_init__(self) -> None:
        check_rate(self.rate_per_s)
        if self.rate_scale is not None:
            if not (isfinite(self.rate_scale) and self.rate_scale > 0):
                raise ConfigError(f"trace.rate_scale must be a positive number, not {self.rate_scale}")
            if self.rate_per_s or self.arrivals.name != "recorded":
                raise ConfigError("trace.rate_scale rescales recorded times: set it or rate_per_s or arrivals, not two")
        for name in ("limit", "max_output_tokens", "max_context_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"trace.{name} must be at least 1, not {value}")
        if self.arrivals.name != "recorded" and not self.rate_per_s:
            raise ConfigError(f"trace.rate_per_s is needed for {self.arrivals.name} arrivals")
        RowErrors.of(self.path, self.on_error, self.report)

    @abstractmethod
    def plays(self, report: Report, rng: np.random.Generator) -> Iterator[Play]:
        """The recorded sessions in order of arrival (``rng`` is for formats that must spread coarse times).

        Raises ``TraceError`` with file, row and reason; fills ``report``.
        """

    def errors(self, report: Report) -> RowErrors:
        """How this trace treats bad rows."""
        return RowErrors.of(self.path, self.on_error, report)

    def sessions(self, streams: Streams, slo: SloRule) -> Iterator[Session]:
        """The sessions in order of arrival; the first arrives at 0 if times are recorded."""
        clock = self._clock(streams)
        self.report.clear()
        rng = streams.stream("slo")
        request_id = 0
        for number, play in enumerate(self._kept(self.report, streams)):
            yield session_of(play, clock(play), number, request_id, self.max_output_tokens, slo, rng)
            request_id += len(play.turns)

    def _kept(self, report: Report, streams: Streams) -> Iterator[Play]:
        """Plays after cutting, up to ``limit`` requests; an empty trace is refused."""
        requests = 0
        for play in self.plays(report, streams.stream("spread")):
            kept = cut(play, self.max_output_tokens, self.max_context_tokens, report)
            if kept.turns:
                yield kept
                requests += len(kept.turns)
                if self.limit is not None and requests >= self.limit:
                    return
        if requests == 0:
            raise TraceError(self.path, None, f"no request to replay ({report})")

    def _clock(self, streams: Streams) -> Callable[[Play], float]:
        """When each play of this run arrives; asked once for each, in order."""
        if self.arrivals.name != "recorded":
            requests = plays = 0
            for play in self._kept(Report(), streams):
                requests += len(play.turns)
                plays += 1
            times = self.arrivals.times((self.rate_per_s or 1.0) * plays / requests, streams.stream("arrivals"))
            return lambda play: next(times)
        speed = self.rate_per_s / self.recorded_rate_per_s(streams) if self.rate_per_s else self.rate_scale or 1.0
        first_s = nan

        def recorded(play: Play) -> float:
            nonlocal first_s
            if isnan(play.arrival_s):
                reason = "has no arrival time; set trace.arrivals.name (poisson, ...) and trace.rate_per_s"
                raise TraceError(self.path, play.row, reason)
            if isnan(first_s):
                first_s = play.arrival_s
            return (play.arrival_s - first_s) / speed

        return recorded

    def recorded_rate_per_s(self, streams: Streams) -> float:
        """Mean request rate as recorded: requests over the time between the first and the last session."""
        requests = 0
        first_s = last_s = nan
        for play in self._kept(Report(), streams):
            requests += len(play.turns)
            first_s = play.arrival_s if requests == len(play.turns) else first_s
            last_s = play.arrival_s
        if not last_s > first_s:
            raise TraceError(self.path, None, "all sessions arrive at one time: it has no rate to rescale")
        return requests / (last_s - first_s)
