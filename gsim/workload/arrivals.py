"""When sessions arrive: processes of a given mean rate, drawn in blocks, endless."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, fields
from math import isfinite, log
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gsim.core import ConfigError, TraceError
from gsim.workload.lengths import Z90
from gsim.workload.report import Report, RowErrors
from gsim.workload.rows import csv_rows, number, parsed

Floats = NDArray[np.float64]

#: Arrivals drawn at a time: NumPy's cost per call is spread, memory stays flat.
BLOCK = 4096


class ArrivalProcess(Protocol):
    """Endless arrival times."""

    def blocks(self, rate_per_s: float, rng: np.random.Generator) -> Iterator[Floats]:
        """Arrays of arrival times in order, from 0 on, of mean rate ``rate_per_s``, starting in the steady state."""
        ...


@dataclass(frozen=True)
class Poisson:
    """Independent arrivals: exponential gaps."""

    def blocks(self, rate_per_s: float, rng: np.random.Generator) -> Iterator[Floats]:
        """See ``ArrivalProcess``."""
        last_s = 0.0
        while True:
            times = last_s + np.cumsum(rng.exponential(1.0 / rate_per_s, BLOCK))
            last_s = float(times[-1])
            yield times


@dataclass(frozen=True)
class Gamma:
    """Renewal process with Gamma gaps; ``cv`` is their coefficient of variation (1: Poisson)."""

    cv: float = 2.0

    def blocks(self, rate_per_s: float, rng: np.random.Generator) -> Iterator[Floats]:
        """See ``ArrivalProcess``."""
        shape = 1.0 / self.cv**2
        scale = 1.0 / (rate_per_s * shape)
        # In the steady state the origin falls into a gap drawn by its length (Gamma of shape + 1), anywhere inside it.
        last_s = rng.random() * rng.gamma(shape + 1.0, scale)
        yield np.array([last_s])
        while True:
            times = last_s + np.cumsum(rng.gamma(shape, scale, BLOCK))
            last_s = float(times[-1])
            yield times


@dataclass(frozen=True)
class OnOff:
    """Poisson arrivals during exponential on-phases, silence during exponential off-phases."""

    on_s: float = 30.0
    off_s: float = 60.0

    def blocks(self, rate_per_s: float, rng: np.random.Generator) -> Iterator[Floats]:
        """See ``ArrivalProcess``."""
        peak = rate_per_s * (self.on_s + self.off_s) / self.on_s
        on = rng.random() < self.on_s / (self.on_s + self.off_s)
        now_s = 0.0
        while True:
            span_s = rng.exponential(self.on_s if on else self.off_s)
            if on:
                # Given their number, Poisson arrivals lie anywhere in the phase.
                yield now_s + np.sort(rng.random(rng.poisson(peak * span_s))) * span_s
            now_s += span_s
            on = not on


@dataclass(frozen=True)
class Modulated:
    """Poisson whose rate changes every window by an independent Gamma factor of mean 1."""

    window_s: float = 60.0
    spread: float = 0.21
    """Coefficient of variation of the factor. 0.21 over 60 s gives Azure 2023 conv's index of dispersion, 16, at its
    5.53 requests/s (index = 1 + rate * window * spread**2)."""

    def blocks(self, rate_per_s: float, rng: np.random.Generator) -> Iterator[Floats]:
        """See ``ArrivalProcess``."""
        shape = 1.0 / self.spread**2
        now_s = 0.0
        while True:
            factor = rng.gamma(shape, 1.0 / shape)
            yield now_s + np.sort(rng.random(rng.poisson(rate_per_s * self.window_s * factor))) * self.window_s
            now_s += self.window_s


@dataclass(frozen=True)
class Clients:
    """Many unlike clients, each a Gamma renewal process (ServeGen, Alibaba's deepseek-r1 service)."""

    clients: int = 73
    skew: float = 1.16
    """Zipf exponent of the clients' rates: 1.16 lets the top 10 of 73 send 68 % of the requests."""
    cv_median: float = 1.02
    cv_p90: float = 5.6
    """Burstiness of the clients: lognormal with these percentiles."""

    def blocks(self, rate_per_s: float, rng: np.random.Generator) -> Iterator[Floats]:
        """See ``ArrivalProcess``."""
        weights = np.arange(1, self.clients + 1) ** -self.skew
        rates = rate_per_s * weights / weights.sum()
        sigma = log(self.cv_p90 / self.cv_median) / Z90
        cvs = self.cv_median * np.exp(sigma * rng.standard_normal(self.clients))
        streams = [
            _flat(Gamma(float(cv)).blocks(float(rate), child))
            for rate, cv, child in zip(rates, cvs, rng.spawn(self.clients), strict=True)
        ]
        merged = heapq.merge(*streams)
        while True:
            yield np.fromiter(merged, float, BLOCK)


@dataclass(frozen=True)
class Replayed:
    """Poisson that follows a recorded rate curve, scaled to the mean rate, repeated for ever."""

    curve_path: str
    """CSV (gz too) with columns ``ts`` (s, start of the window, evenly spaced) and ``rps``."""

    def blocks(self, rate_per_s: float, rng: np.random.Generator) -> Iterator[Floats]:
        """See ``ArrivalProcess``; ``TraceError`` where the curve is no curve."""
        curve, window_s = rate_curve(self.curve_path)
        factors = curve / curve.mean()
        now_s = 0.0
        while True:
            for factor in factors:
                yield now_s + np.sort(rng.random(rng.poisson(rate_per_s * window_s * factor))) * window_s
                now_s += window_s


def _flat(blocks: Iterator[Floats]) -> Iterator[float]:
    for block in blocks:
        yield from block.tolist()


#: The curves that gsim brings, by name (their sources: the README there).
CURVES = Path(__file__).with_name("curves")


def curve_file(name: str) -> str:
    """The file of a curve: a path as it is, a bare name among those that gsim brings where there is no such file."""
    brought = CURVES / f"{name}.csv"
    return str(brought) if "/" not in name and not Path(name).exists() and brought.is_file() else name


def rate_curve(path: str) -> tuple[Floats, float]:
    """The rates of a curve (a file, or a name: ``curve_file``) and the seconds that each holds.

    ``TraceError`` names file and row.
    """
    path = curve_file(path)
    errors = RowErrors(path, skip=False, report=Report())
    rows = csv_rows(path, errors, ("ts", "rps"))
    points = list(parsed(rows, errors, lambda _, row: (number(row, "ts"), number(row, "rps"))))
    if len(points) < 2:
        raise TraceError(path, None, "a rate curve has at least two rows")
    starts = np.array([point[0] for _, point in points])
    rates = np.array([point[1] for _, point in points])
    window_s = float(starts[1] - starts[0])
    uneven = np.flatnonzero(np.abs(np.diff(starts) - window_s) > 1e-6 * max(window_s, 1.0))
    if window_s <= 0 or len(uneven):
        row = points[int(uneven[0]) + 1 if len(uneven) else 1][0]
        raise TraceError(path, row, "ts must rise in even steps")
    if rates.sum() <= 0:
        raise TraceError(path, None, "all rates are 0")
    return rates, window_s


_PROCESSES: dict[str, type] = {
    "poisson": Poisson,
    "gamma": Gamma,
    "on_off": OnOff,
    "modulated": Modulated,
    "clients": Clients,
    "replayed": Replayed,
}


@dataclass(frozen=True)
class ArrivalConfig:
    """Which arrival process, with its parameters (None: the process's default)."""

    name: str = "poisson"
    """``poisson``, ``gamma``, ``on_off``, ``modulated``, ``clients``, ``replayed`` or ``recorded`` (the trace's)."""
    cv: float | None = None
    """gamma: coefficient of variation of the gaps (default 2)."""
    on_s: float | None = None
    """on_off: mean length of an on-phase (default 30)."""
    off_s: float | None = None
    """on_off: mean length of an off-phase (default 60)."""
    window_s: float | None = None
    """modulated: how long a rate holds (default 60)."""
    spread: float | None = None
    """modulated: coefficient of variation of the rate over windows (default 0.21)."""
    clients: int | None = None
    """clients: how many (default 73)."""
    skew: float | None = None
    """clients: Zipf exponent of their rates (default 1.16)."""
    cv_median: float | None = None
    """clients: median burstiness of a client (default 1.02)."""
    cv_p90: float | None = None
    """clients: 90th percentile of burstiness (default 5.6)."""
    curve_path: str | None = None
    """replayed: CSV file with columns ts, rps, or a curve that gsim brings (``alibaba_r1_day``)."""

    def __post_init__(self) -> None:
        if self.name not in _PROCESSES and self.name != "recorded":
            known = ", ".join([*_PROCESSES, "recorded"])
            raise ConfigError(f"trace.arrivals.name must be one of {known}; not '{self.name}'")
        own = [field.name for field in fields(_PROCESSES[self.name])] if self.name in _PROCESSES else []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "name" or value is None:
                continue
            if field.name not in own:
                raise ConfigError(f"trace.arrivals.{field.name} is no parameter of '{self.name}' arrivals")
            if not isinstance(value, str) and not (isfinite(value) and value > 0):
                raise ConfigError(f"trace.arrivals.{field.name} must be a positive number, not {value}")
        if self.name == "replayed" and self.curve_path is None:
            raise ConfigError("trace.arrivals.curve_path is needed for replayed arrivals")
        if self.name == "clients":
            made = self.process()
            if isinstance(made, Clients) and made.cv_p90 < made.cv_median:
                raise ConfigError(f"trace.arrivals.cv_p90 must be at least cv_median ({made.cv_median})")

    def process(self) -> ArrivalProcess:
        """The process (not for ``recorded``, which has none: the trace's own times count)."""
        if self.name == "recorded":
            raise ConfigError("trace.arrivals.name=recorded: this trace has no times of its own")
        made = _PROCESSES[self.name]
        given = {f.name: getattr(self, f.name) for f in fields(made) if getattr(self, f.name) is not None}
        process: ArrivalProcess = made(**given)
        return process

    def blocks(self, rate_per_s: float, rng: np.random.Generator) -> Iterator[Floats]:
        """Arrays of arrival times in order, of mean rate ``rate_per_s`` (> 0)."""
        return self.process().blocks(rate_per_s, rng)

    def times(self, rate_per_s: float, rng: np.random.Generator) -> Iterator[float]:
        """The same, one by one."""
        return _flat(self.blocks(rate_per_s, rng))


def check_rate(rate_per_s: float | None, name: str = "trace.rate_per_s") -> None:
    """``ConfigError`` unless the rate is positive or, for recorded traces, absent (None or 0)."""
    if rate_per_s is not None and not (isfinite(rate_per_s) and rate_per_s >= 0):
        raise ConfigError(f"{name} must be a positive number of requests per second, not {rate_per_s}")
