"""The paper's synthetic shape: single requests, short prompts, uniform output lengths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from gsim.core import ConfigError, Job, Request, Session, Streams, register
from gsim.workload.arrivals import ArrivalConfig, check_rate
from gsim.workload.slo import SloRule


@register("trace", "paper")
@dataclass(frozen=True)
class Paper:
    """Single requests: 100 prompt tokens, 100 to 500 output tokens, Poisson arrivals (GoodServe's shape)."""

    rate_per_s: float = 10.0
    """Mean request rate."""
    requests: int | None = 2000
    """Stop after so many requests; null: no limit (then ``duration_s`` is needed)."""
    duration_s: float | None = None
    """Stop at this time (the first of the two limits counts)."""
    prompt_tokens: int = 100
    """Every prompt's length."""
    shortest_output_tokens: int = 100
    """Output lengths are uniform from here ..."""
    longest_output_tokens: int = 500
    """... to here, both included."""
    max_output_tokens: int = 512
    """What each client asks for at most."""
    arrivals: ArrivalConfig = field(default_factory=ArrivalConfig)
    """The arrival process."""

    def __post_init__(self) -> None:
        check_rate(self.rate_per_s)
        if self.rate_per_s == 0:
            raise ConfigError("trace.rate_per_s must be positive: this trace has no rate of its own")
        check_limits(self.requests, self.duration_s)
        if not self.prompt_tokens >= 1:
            raise ConfigError(f"trace.prompt_tokens must be at least 1, not {self.prompt_tokens}")
        if not 1 <= self.shortest_output_tokens <= self.longest_output_tokens:
            raise ConfigError(
                "trace.shortest_output_tokens must be in [1, longest_output_tokens], "
                f"not {self.shortest_output_tokens} with {self.longest_output_tokens}"
            )
        if self.max_output_tokens < self.longest_output_tokens:
            raise ConfigError(
                f"trace.max_output_tokens ({self.max_output_tokens}) must be at least longest_output_tokens "
                f"({self.longest_output_tokens})"
            )

    def sessions(self, streams: Streams, slo: SloRule) -> Iterator[Session]:
        """Sessions of one request each, in order of arrival."""
        lengths, objectives = streams.stream("lengths"), streams.stream("slo")
        limit = inf if self.requests is None else self.requests
        end_s = inf if self.duration_s is None else self.duration_s
        prompt, cap, rule = self.prompt_tokens, self.max_output_tokens, slo.slo_s
        i = 0
        for block in self.arrivals.blocks(self.rate_per_s, streams.stream("arrivals")):
            outputs = lengths.integers(self.shortest_output_tokens, self.longest_output_tokens + 1, len(block))
            for arrival_s, output in zip(block.tolist(), outputs.tolist(), strict=True):
                if arrival_s > end_s or i >= limit:
                    return
                slo_s = rule(Request(i, arrival_s, prompt, cap, inf, session_id=i), output, objectives)
                request = Request(i, arrival_s, prompt, cap, slo_s, session_id=i)
                yield Session(i, arrival_s, (Job(request, output),))
                i += 1


def check_limits(requests: int | None, duration_s: float | None) -> None:
    """``ConfigError`` unless a generated trace ends somewhere."""
    if requests is None and duration_s is None:
        raise ConfigError("trace.requests and trace.duration_s are both null: the trace would never end")
    if requests is not None and requests < 1:
        raise ConfigError(f"trace.requests must be at least 1, not {requests}")
    if duration_s is not None and not 0 < duration_s < inf:
        raise ConfigError(f"trace.duration_s must be a positive number of seconds, not {duration_s}")
