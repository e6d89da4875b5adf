"""What a trace is like: rows, rate, burstiness, lengths, turns, gaps, reuse."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gsim.core import Job, Session
from gsim.workload.inspect.reuse import InfiniteCache, SentBefore

Floats = NDArray[np.float64]

PERCENTS = (10, 50, 90, 99)
#: The index of dispersion counts arrivals in windows of this length.
WINDOW_S = 60.0
_MIN_WINDOWS = 10


def _floats() -> array[float]:
    return array("d")


@dataclass
class TaskLengths:
    """Lengths of one task class (a few bytes per request)."""

    prompts: array[float] = field(default_factory=_floats)
    outputs: array[float] = field(default_factory=_floats)
    turns: array[float] = field(default_factory=_floats)
    """Requests per session."""


@dataclass
class Inspection:
    """Statistics of a stream of sessions. Holds a few numbers per request, no request."""

    block_size: int = 16
    arrivals_s: array[float] = field(default_factory=_floats)
    """Of sessions."""
    tasks: dict[str, TaskLengths] = field(default_factory=dict)
    firsts: array[float] = field(default_factory=_floats)
    """First prompts of sessions of several turns."""
    lasts: array[float] = field(default_factory=_floats)
    """Their last prompts."""
    appends: array[float] = field(default_factory=_floats)
    """Prompt tokens of later turns that their session has not sent before."""
    gaps_s: array[float] = field(default_factory=_floats)
    """From the end of a turn to one that waits for it."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that an infinite cache would hit."""
    later_tokens: int = 0
    """Prompt tokens of turns after their session's first."""
    resent_tokens: int = 0
    """Of those, what the session had sent before."""

    def __post_init__(self) -> None:
        self._cache = InfiniteCache(self.block_size)

    def add(self, session: Session) -> None:
        """Count one session."""
        self.arrivals_s.append(session.arrival_s)
        jobs = session.jobs
        self._task(jobs[0]).turns.append(len(jobs))
        sent = SentBefore()
        for job in jobs:
            self._count(job)
            if len(jobs) > 1:
                self._count_turn(job, sent)
        if len(jobs) > 1:
            self.firsts.append(jobs[0].request.prompt_tokens)
            self.lasts.append(jobs[-1].request.prompt_tokens)

    def _task(self, job: Job) -> TaskLengths:
        return self.tasks.setdefault(job.request.task, TaskLengths())

    def _count(self, job: Job) -> None:
        lengths = self._task(job)
        lengths.prompts.append(job.request.prompt_tokens)
        lengths.outputs.append(job.output_tokens)
        self.prompt_tokens += job.request.prompt_tokens
        self.cached_tokens += self._cache.reuse(job)

    def _count_turn(self, job: Job, sent: SentBefore) -> None:
        request = job.request
        if request.turn:
            shared = sent.shared(request.content)
            self.later_tokens += request.prompt_tokens
            self.resent_tokens += shared
            self.appends.append(request.prompt_tokens - shared)
            self.gaps_s.extend(dependency.delay_s for dependency in job.after if dependency.on_completion)
        sent.add(request.content)

    @property
    def sessions(self) -> int:
        """How many sessions."""
        return len(self.arrivals_s)

    @property
    def requests(self) -> int:
        """How many requests."""
        return sum(len(lengths.prompts) for lengths in self.tasks.values())

    @property
    def span_s(self) -> float:
        """From the first to the last session."""
        return self.arrivals_s[-1] - self.arrivals_s[0] if self.arrivals_s else 0.0

    @property
    def rate_per_s(self) -> float:
        """Requests over the span (NaN: there is none)."""
        return self.requests / self.span_s if self.span_s > 0 else float("nan")

    @property
    def gap_cv(self) -> float:
        """Coefficient of variation of the gaps between sessions: 1 for Poisson arrivals."""
        gaps = np.diff(np.asarray(self.arrivals_s))
        return float(gaps.std() / gaps.mean()) if len(gaps) and gaps.mean() > 0 else float("nan")

    @property
    def dispersion(self) -> float:
        """Variance over mean of the sessions per minute (NaN: fewer than ten minutes).

        1 for Poisson arrivals; it sees slow changes that the coefficient of variation misses.
        """
        counts = self.counts(WINDOW_S)
        return float(counts.var() / counts.mean()) if len(counts) >= _MIN_WINDOWS else float("nan")

    def counts(self, window_s: float) -> Floats:
        """Sessions in each whole window."""
        times = np.asarray(self.arrivals_s) - (self.arrivals_s[0] if self.arrivals_s else 0.0)
        windows = int(self.span_s // window_s)
        return np.bincount((times // window_s).astype(int), minlength=windows)[:windows].astype(float)

    @property
    def reuse(self) -> float:
        """Share of all prompt tokens that an infinite cache would hit."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else float("nan")

    @property
    def session_reuse(self) -> float:
        """Share of the prompt tokens of later turns that their session had sent before (NaN: no later turns)."""
        return self.resent_tokens / self.later_tokens if self.later_tokens else float("nan")

    def lengths(self, name: str) -> Floats:
        """``prompts``, ``outputs`` or ``turns`` of all classes."""
        return np.concatenate([np.asarray(getattr(task, name)) for task in self.tasks.values()] or [np.zeros(0)])

    def lines(self) -> list[str]:
        """The figures as text."""
        text = [
            f"sessions              {self.sessions}",
            f"requests              {self.requests}",
            f"span                  {self.span_s:.1f} s",
            f"request rate          {self.rate_per_s:.3f} /s",
            f"arrival gaps, CV      {self.gap_cv:.2f}",
            f"dispersion per minute {self.dispersion:.1f}",
            f"reuse, infinite cache {self.reuse:.1%} of prompt tokens (blocks of {self.block_size})",
        ]
        if self.later_tokens:
            text.append(f"resent in sessions    {self.session_reuse:.1%} of later turns' prompt tokens")
        text += ["", f"{'':28}{'mean':>10}" + "".join(f"{f'p{percent}':>10}" for percent in PERCENTS)]
        for name, values in self._columns():
            if len(values):
                figures = [values.mean(), *np.percentile(values, PERCENTS)]
                text.append(f"{name:28}" + "".join(f"{_short(figure):>10}" for figure in figures))
        return text

    def _columns(self) -> Iterable[tuple[str, Floats]]:
        yield "prompt tokens", self.lengths("prompts")
        yield "output tokens", self.lengths("outputs")
        if self.later_tokens:
            yield "turns per session", self.lengths("turns")
            yield "first prompt of sessions", np.asarray(self.firsts)
            yield "last prompt of sessions", np.asarray(self.lasts)
            yield "new tokens of later turns", np.asarray(self.appends)
            yield "gap before turns (s)", np.asarray(self.gaps_s)
        if len(self.tasks) > 1:
            for task, lengths in sorted(self.tasks.items()):
                for name in ("prompts", "outputs", "turns"):
                    yield f"{task}: {name}", np.asarray(getattr(lengths, name))


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def inspect(sessions: Iterable[Session], block_size: int = 16) -> Inspection:
    """Read a stream of sessions to its end."""
    found = Inspection(block_size)
    for session in sessions:
        found.add(session)
    return found
