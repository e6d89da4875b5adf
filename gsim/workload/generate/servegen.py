"""Single requests with the length distributions of a production service, given as quantiles (ServeGen)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

import numpy as np
from numpy.typing import NDArray

from gsim.core import ConfigError, Session, Streams, TraceError, register
from gsim.workload.arrivals import ArrivalConfig, check_rate
from gsim.workload.generate.paper import check_limits
from gsim.workload.play import single
from gsim.workload.replay import session_of
from gsim.workload.report import Report, RowError, RowErrors
from gsim.workload.rows import Row, csv_rows, number, parsed, text, whole
from gsim.workload.slo import SloRule

_FIELDS = ("input_tokens", "output_tokens")
_BLOCK = 4096

Table = tuple[NDArray[np.float64], NDArray[np.float64]]


@register("trace", "servegen")
@dataclass(frozen=True, kw_only=True)
class ServeGen:
    """Single requests drawn from a service's length quantiles (CSV: field, q, tokens), such as ServeGen deepseek-r1.

    Prompt and output lengths are drawn independently (pooled over clients their rank correlation is -0.08).
    """

    path: str
    """CSV file (gz too) with columns ``field`` (``input_tokens``, ``output_tokens``), ``q`` and ``tokens``."""
    rate_per_s: float = 16.0
    """Mean request rate (deepseek-r1's own: 16)."""
    requests: int | None = 2000
    """Stop after so many requests; null: no limit."""
    duration_s: float | None = None
    """Stop at this time (the first of the two limits counts)."""
    max_output_tokens: int = 32768
    """What each client asks for at most; longer outputs are cut to it."""
    max_context_tokens: int | None = None
    """Draw prompts again until prompt and output fit this."""
    task: str = "reasoning_chat"
    """Task class of every request."""
    arrivals: ArrivalConfig = field(default_factory=lambda: ArrivalConfig("clients"))
    """The arrival process."""

    def __post_init__(self) -> None:
        check_rate(self.rate_per_s)
        if self.rate_per_s == 0:
            raise ConfigError("trace.rate_per_s must be positive: this trace has no rate of its own")
        check_limits(self.requests, self.duration_s)
        if self.max_output_tokens < 1:
            raise ConfigError(f"trace.max_output_tokens must be at least 1, not {self.max_output_tokens}")

    def sessions(self, streams: Streams, slo: SloRule) -> Iterator[Session]:
        """Sessions of one request each, in order of arrival."""
        lengths, rng = streams.stream("lengths"), streams.stream("slo")
        times = self.arrivals.times(self.rate_per_s, streams.stream("arrivals"))
        limit = inf if self.requests is None else self.requests
        end_s = inf if self.duration_s is None else self.duration_s
        drawn = self._lengths(quantile_tables(self.path), lengths)
        for i, ((prompt, output), arrival_s) in enumerate(zip(drawn, times, strict=False)):
            if i >= limit or arrival_s > end_s:
                return
            play = single(arrival_s, prompt, output)
            play = play._replace(turns=(play.turns[0]._replace(task=self.task),))
            yield session_of(play, arrival_s, i, i, self.max_output_tokens, slo, rng)

    def _lengths(self, tables: dict[str, Table], rng: np.random.Generator) -> Iterator[tuple[int, int]]:
        """Endless (prompt, output) lengths."""
        while True:
            prompts, outputs = (
                np.maximum(np.rint(np.interp(rng.random(_BLOCK), *tables[name])), 1).astype(int) for name in _FIELDS
            )
            outputs = np.minimum(outputs, self.max_output_tokens)
            if self.max_context_tokens is not None:
                fits = prompts + outputs <= self.max_context_tokens
                if not fits.any():
                    raise ConfigError(f"trace.max_context_tokens={self.max_context_tokens} is shorter than any request")
                prompts, outputs = prompts[fits], outputs[fits]
            yield from zip(prompts.tolist(), outputs.tolist(), strict=True)


def quantile_tables(path: str) -> dict[str, Table]:
    """For each length field its rising shares and values; ``TraceError`` names file and row."""
    errors = RowErrors(path, skip=False, report=Report())
    points: dict[str, list[tuple[float, int]]] = {}

    def add(_: int, row: Row) -> bool:
        share, tokens = number(row, "q", high=1.0), whole(row, "tokens", low=0)
        known = points.setdefault(text(row, "field"), [])
        if known and (share <= known[-1][0] or tokens < known[-1][1]):
            raise RowError("q must rise, and tokens must not fall, within a field")
        known.append((share, tokens))
        return True

    for _ in parsed(csv_rows(path, errors, ("field", "q", "tokens")), errors, add):
        pass
    for name in _FIELDS:
        if len(points.get(name, ())) < 2:
            raise TraceError(path, None, f"needs at least two quantiles of {name}")
    return {
        name: (np.array([q for q, _ in rows]), np.array([t for _, t in rows], float)) for name, rows in points.items()
    }
