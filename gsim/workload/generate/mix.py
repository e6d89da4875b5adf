"""Generated agentic workloads: sessions of several task classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from math import inf, isfinite
from typing import ClassVar, Literal

from gsim.core import ConfigError, Session, Streams, register
from gsim.workload.arrivals import ArrivalConfig, check_rate
from gsim.workload.generate.agent import Agents, SubAgents
from gsim.workload.generate.paper import check_limits
from gsim.workload.generate.task_class import CLASSES
from gsim.workload.play import NO_CLOCK, Play
from gsim.workload.replay import session_of
from gsim.workload.slo import SloRule

#: Sessions of a dry run that finds a class's mean number of requests per session (standard error about 1 %).
_DRY_SESSIONS = 2000


@register("trace", "mix")
@dataclass(frozen=True)
class Mix:
    """Closed-loop agents of several task classes with measured lengths: code, SQL, math and tool agents."""

    counting: ClassVar[Literal["by_session"]] = "by_session"

    rate_per_s: float = 10.0
    """The offered request rate: sessions arrive at this rate over their mean number of requests."""
    requests: int | None = 2000
    """Stop after so many requests (the session that reaches it is whole); null: no limit."""
    duration_s: float | None = None
    """No session starts after this time (the first of the two limits counts)."""
    classes: tuple[str, ...] = ("code_agent_light", "sql_agent", "math_agent", "tool_agent")
    """Task classes: code_agent_light, code_agent, code_agent_production, livecodebench, text_to_sql, sql_agent, math,
    math_agent, tool_agent, chat."""
    weights: tuple[float, ...] = ()
    """Shares of the sessions, in the order of ``classes``; empty: as many requests of each class."""
    max_context_tokens: int = 32768
    """A session ends before a turn whose prompt and ``max_output_tokens`` together exceed this (the model's limit, or
    what the smallest card's KV cache holds)."""
    arrivals: ArrivalConfig = field(default_factory=ArrivalConfig)
    """The arrival process of sessions."""
    sub_agents: SubAgents = field(default_factory=SubAgents)
    """Sub-agents that turns call."""

    def __post_init__(self) -> None:
        # Configuration files know lists only; the fields must be hashable.
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "weights", tuple(self.weights))
        check_rate(self.rate_per_s)
        if self.rate_per_s == 0:
            raise ConfigError("trace.rate_per_s must be positive: this trace has no rate of its own")
        check_limits(self.requests, self.duration_s)
        for name in self.classes:
            if name not in CLASSES:
                raise ConfigError(f"unknown task class '{name}' in trace.classes; there are: {', '.join(CLASSES)}")
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ConfigError("trace.classes must name at least one task class, and none twice")
        if self.weights and len(self.weights) != len(self.classes):
            raise ConfigError(f"trace.weights must have one entry per class ({len(self.classes)}), or none")
        if any(not isfinite(w) or w < 0 for w in self.weights) or (self.weights and sum(self.weights) <= 0):
            raise ConfigError(f"trace.weights must be 0 or more, one of them positive; not {self.weights}")
        sub = self.sub_agents
        if not 0 <= sub.probability <= 1 or sub.width < 1 or sub.turns < 1:
            raise ConfigError("trace.sub_agents: probability must be in [0, 1], width and turns at least 1")

    def sessions(self, streams: Streams, slo: SloRule) -> Iterator[Session]:
        """Sessions in order of arrival."""
        per_session = sum(
            share * requests_per_session(name, self.max_context_tokens, self.sub_agents)
            for name, share in zip(self.classes, session_shares(self), strict=True)
        )
        session_rate = self.rate_per_s / per_session
        times = self.arrivals.times(session_rate, streams.stream("arrivals"))
        rng = streams.stream("slo")
        limit = inf if self.requests is None else self.requests
        end_s = inf if self.duration_s is None else self.duration_s
        request_id = 0
        for number, play in enumerate(plays(self, streams)):
            arrival_s = next(times)
            if request_id >= limit or arrival_s > end_s:
                return
            cap = CLASSES[play.turns[0].task].max_output_tokens
            yield session_of(play, arrival_s, number, request_id, cap, slo, rng)
            request_id += len(play.turns)


def plays(mix: Mix, streams: Streams) -> Iterator[Play]:
    """Endless sessions of the mix, without arrival times."""
    fresh = count(1)
    agents = [
        Agents(name, CLASSES[name], streams, fresh, mix.max_context_tokens, mix.sub_agents) for name in mix.classes
    ]
    rng = streams.stream("classes")
    shares = session_shares(mix)
    empty = 0
    while True:
        for chosen in rng.choice(len(agents), 1024, p=shares).tolist():
            turns = agents[chosen].session()
            if turns:
                empty = 0
                yield Play(NO_CLOCK, turns)
            else:
                empty += 1
                if empty == 1000:
                    raise ConfigError(
                        f"trace.max_context_tokens={mix.max_context_tokens} leaves no room for the first prompt of "
                        f"{agents[chosen].name} and the {agents[chosen].task.max_output_tokens} output tokens that it "
                        "asks for: raise it"
                    )


def session_shares(mix: Mix) -> list[float]:
    """The share of each class of the sessions."""
    if len(mix.classes) == 1:
        return [1.0]
    weights = mix.weights or [
        1.0 / requests_per_session(name, mix.max_context_tokens, mix.sub_agents) for name in mix.classes
    ]
    return [weight / sum(weights) for weight in weights]


@lru_cache(maxsize=64)
def requests_per_session(name: str, max_context_tokens: int, sub_agents: SubAgents) -> float:
    """Mean number of requests of a class's session (sessions end at the context limit: counted in a dry run)."""
    made = plays(Mix(classes=(name,), max_context_tokens=max_context_tokens, sub_agents=sub_agents), Streams(0))
    return sum(len(next(made).turns) for _ in range(_DRY_SESSIONS)) / _DRY_SESSIONS
