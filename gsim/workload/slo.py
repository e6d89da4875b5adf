"""End-to-end objectives: how long a request may take, from its arrival to its last token."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import inf, isfinite
from typing import Protocol, runtime_checkable

import numpy as np

from gsim.core import ConfigError, Request, register
from gsim.latency import Profile, load_profile, unloaded_latency_s
from gsim.workload.lengths import Z90


class SloRule(Protocol):
    """Gives every request its objective."""

    def slo_s(self, request: Request, output_tokens: int, rng: np.random.Generator) -> float:
        """Seconds from arrival. ``request.slo_s`` is what the trace itself recorded (inf: nothing)."""
        ...


@runtime_checkable
class SessionSloRule(Protocol):
    """A rule that also says how long a whole session may take."""

    def session_slo_s(self, recorded_s: float, path_s: float) -> float:
        """``recorded_s``: what the trace recorded (inf: nothing); ``path_s``: the session's longest chain of
        request objectives and gaps, which is its objective where a rule does not say."""
        ...


@dataclass(frozen=True)
class OfSession:
    """What every rule can say of a whole session, too."""

    session_s: float | None = field(default=None, kw_only=True)
    """For a whole session of several requests, from its first arrival to its last token; null: its longest chain of
    request objectives and gaps (with ``slo=trace``: as it was recorded, else that)."""

    def __post_init__(self) -> None:
        if self.session_s is not None:
            _positive("session_s", self.session_s)

    def session_slo_s(self, recorded_s: float, path_s: float) -> float:
        """``session_s``, or the session's longest chain."""
        return path_s if self.session_s is None else self.session_s


def _positive(name: str, value: float) -> None:
    if not (isfinite(value) and value > 0):
        raise ConfigError(f"slo.{name} must be a positive number, not {value}")


@register("slo", "fixed")
@dataclass(frozen=True)
class Fixed(OfSession):
    """The same number of seconds for every request."""

    seconds: float = 6.0
    """From arrival to last token."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive("seconds", self.seconds)

    def slo_s(self, request: Request, output_tokens: int, rng: np.random.Generator) -> float:
        """``seconds``."""
        return self.seconds


@register("slo", "scaled")
@dataclass(frozen=True)
class Scaled(OfSession):
    """A multiple of the request's unloaded latency on a reference GPU."""

    scale: float = 2.0
    """How many times the unloaded latency."""
    profile: str = "a800-llama-3.1-8b"
    """Name or path of the reference profile."""
    floor_s: float = 0.0
    """No objective is tighter than this."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive("scale", self.scale)
        if not (isfinite(self.floor_s) and self.floor_s >= 0):
            raise ConfigError(f"slo.floor_s must be 0 or more, not {self.floor_s}")

    @cached_property
    def _reference(self) -> Profile:
        return load_profile(self.profile)

    @cached_property
    def _known(self) -> dict[tuple[int, int], float]:
        return {}

    def slo_s(self, request: Request, output_tokens: int, rng: np.random.Generator) -> float:
        """``scale`` times the latency that the request has on the idle reference GPU."""
        key = (request.prompt_tokens, output_tokens)
        known = self._known
        latency_s = known.get(key)
        if latency_s is None:
            latency_s = unloaded_latency_s(self._reference, *key)
            if len(known) < 65_536:
                known[key] = latency_s
        return max(self.scale * latency_s, self.floor_s)


@register("slo", "per_class")
@dataclass(frozen=True)
class PerClass(OfSession):
    """Fixed seconds per task class."""

    seconds: dict[str, float] = field(
        default_factory=lambda: {
            "code_agent_light": 20.0,
            "code_agent": 40.0,
            "livecodebench": 600.0,
            "text_to_sql": 6.0,
            "sql_agent": 5.0,
            "math": 600.0,
            "math_agent": 8.0,
            "tool_agent": 10.0,
            "chat": 15.0,
        }
    )
    """Objective by task class. The defaults are assumptions: about the time of a typical request at 30 tokens/s,
    times three (no public trace records end-to-end objectives)."""
    other_s: float = 15.0
    """For classes that are not listed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in self.seconds.items():
            _positive(f"seconds.{name}", value)
        _positive("other_s", self.other_s)

    def slo_s(self, request: Request, output_tokens: int, rng: np.random.Generator) -> float:
        """The class's seconds."""
        return self.seconds.get(request.task, self.other_s)


@register("slo", "drawn")
@dataclass(frozen=True)
class Drawn(OfSession):
    """Drawn from a lognormal distribution, independently of the request."""

    median_s: float = 5.7
    """Half of the requests have a tighter objective."""
    p90_s: float = 22.2
    """Nine in ten have a tighter one. Defaults: time per generation of coding agents, TraceLab (p50, p90)."""
    floor_s: float = 0.5
    """No objective is tighter than this."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive("median_s", self.median_s)
        _positive("floor_s", self.floor_s)
        if not (isfinite(self.p90_s) and self.p90_s >= self.median_s):
            raise ConfigError(f"slo.p90_s must be at least median_s ({self.median_s}), not {self.p90_s}")

    def slo_s(self, request: Request, output_tokens: int, rng: np.random.Generator) -> float:
        """A draw (one standard normal per request)."""
        sigma = np.log(self.p90_s / self.median_s) / Z90
        return float(max(self.median_s * np.exp(sigma * rng.standard_normal()), self.floor_s))


@register("slo", "trace")
@dataclass(frozen=True)
class Recorded(OfSession):
    """As the trace recorded it."""

    other_s: float | None = None
    """For requests without a recorded objective; None: they are refused."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.other_s is not None:
            _positive("other_s", self.other_s)

    def slo_s(self, request: Request, output_tokens: int, rng: np.random.Generator) -> float:
        """The recorded objective."""
        if request.slo_s < inf:
            return request.slo_s
        if self.other_s is None:
            raise ConfigError(
                f"slo=trace: request {request.request_id} has no objective in the trace; set slo.other_s or another slo"
            )
        return self.other_s

    def session_slo_s(self, recorded_s: float, path_s: float) -> float:
        """The recorded objective of the session, else ``session_s``, else its longest chain."""
        return recorded_s if recorded_s < inf else super().session_slo_s(recorded_s, path_s)
