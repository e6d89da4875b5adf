"""A closed population: so many agents, each of which starts its next session when its last one has ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import ClassVar, Literal

import numpy as np

from gsim.core import ConfigError, Population, Session, Streams, register
from gsim.workload.generate.agent import SubAgents
from gsim.workload.generate.mix import Mix, plays
from gsim.workload.generate.task_class import CLASSES
from gsim.workload.play import Play, Wait
from gsim.workload.replay import session_of
from gsim.workload.slo import SloRule


@register("trace", "agents")
@dataclass(frozen=True)
class ClosedPopulation:
    """A fixed number of agents of the mix's task classes, each starting a new session a while after its last one."""

    counting: ClassVar[Literal["by_completion"]] = "by_completion"

    agents: int = 100
    """How many; so many sessions are under way at most."""
    think_s: float = 2.0
    """From the end of an agent's session to the start of its next one. The default is an assumption: a harness that
    hands out queued tasks; people think for a minute (111 s between a chat's turns, Qwen-Bailian)."""
    ramp_s: float = 10.0
    """The agents begin one after another, anywhere in the first ``ramp_s`` seconds (an assumption: enough that their
    prompts, which no cache holds yet, do not come all at once)."""
    classes: tuple[str, ...] = Mix.classes
    """Task classes, as those of ``trace=mix``."""
    weights: tuple[float, ...] = ()
    """Shares of the sessions, in the order of ``classes``; empty: as many requests of each class."""
    max_context_tokens: int = Mix.max_context_tokens
    """A session ends before a turn whose prompt and ``max_output_tokens`` together exceed this."""
    sub_agents: SubAgents = field(default_factory=SubAgents)
    """Sub-agents that turns call."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "weights", tuple(self.weights))
        if self.agents < 1:
            raise ConfigError(f"trace.agents must be at least 1, not {self.agents}")
        if not (isfinite(self.think_s) and self.think_s > 0):
            raise ConfigError(f"trace.think_s must be a positive number of seconds, not {self.think_s}")
        if not (isfinite(self.ramp_s) and self.ramp_s >= 0):
            raise ConfigError(f"trace.ramp_s must be 0 or more, not {self.ramp_s}")
        _ = self.mix

    @property
    def mix(self) -> Mix:
        """The mix that the agents draw their sessions from; raises ``ConfigError`` on what it cannot be."""
        return Mix(
            classes=self.classes,
            weights=self.weights,
            max_context_tokens=self.max_context_tokens,
            sub_agents=self.sub_agents,
        )

    def population(self, streams: Streams, slo: SloRule) -> Population:
        """The agents, each in the middle of a session, and all the sessions that they will ever ask for.

        In the long run an agent is found in a session in proportion to how long that session is, and anywhere in it.
        How long it takes depends on the pool, so its number of turns stands for it: sessions are laid end to end, and
        every so many turns an agent begins, with what came before in its prompt.
        """
        endless = plays(self.mix, streams)
        rng, objectives = streams.stream("agents"), streams.stream("slo")
        starts_s = np.sort(rng.uniform(0.0, self.ramp_s, self.agents)).tolist()
        first = []
        request_id = 0
        for agent, (play, turn) in enumerate(_under_way(endless, self.agents, float(rng.random()))):
            session = _session(_rest(play, turn), starts_s[agent], agent, request_id, slo, objectives)
            jobs = enumerate(session.jobs, start=turn)
            at_turn = tuple([job._replace(request=job.request._replace(turn=i)) for i, job in jobs])
            first.append(session._replace(jobs=at_turn))
            request_id += len(at_turn)
        return Population(tuple(first), self._later(endless, request_id, slo, objectives), self.think_s)

    def _later(
        self, endless: Iterator[Play], request_id: int, slo: SloRule, objectives: np.random.Generator
    ) -> Iterator[Session]:
        for number, play in enumerate(endless, start=self.agents):
            yield _session(play, nan, number, request_id, slo, objectives)
            request_id += len(play.turns)

    def sessions(self, streams: Streams, slo: SloRule) -> Iterator[Session]:
        """Not to be told: when an agent's next session starts depends on the pool."""
        raise ConfigError(
            "trace 'agents' has no times of its own, they depend on the pool; 'mix' has the same sessions"
        )


def _session(
    play: Play, arrival_s: float, number: int, first_id: int, slo: SloRule, objectives: np.random.Generator
) -> Session:
    cap = CLASSES[play.turns[0].task].max_output_tokens
    return session_of(play, arrival_s, number, first_id, cap, slo, objectives)


def _under_way(endless: Iterator[Play], agents: int, offset: float) -> Iterator[tuple[Play, int]]:
    """For each agent a session and a turn of it, taken at equal distances from sessions that are laid end to end.

    So many are laid that the distance is longer than any session: no two agents are in the same one, and a session is
    taken with a probability that is exactly in proportion to its turns (systematic sampling). ``offset`` in [0, 1):
    where in the first distance the first agent is.
    """
    laid: list[Play] = []
    turns, longest = 0, 0
    while not laid or turns < agents * longest:
        laid.append(next(endless))
        size = len(laid[-1].turns)
        turns, longest = turns + size, max(longest, size)
    distance = turns / agents
    agent, before = 0, 0
    for play in laid:
        size = len(play.turns)
        place = (agent + offset) * distance
        if agent < agents and place < before + size:
            yield play, min(int(place - before), size - 1)
            agent += 1
        before += size


def _rest(play: Play, turn: int) -> Play:
    """What is left of a session from ``turn`` on; what came before has ended, and nothing waits for it any more."""
    kept = []
    for later in play.turns[turn:]:
        after = [Wait(wait.turn - turn, wait.delay_s, wait.on_completion) for wait in later.after if wait.turn >= turn]
        kept.append(later._replace(after=tuple(after)))
    return play._replace(turns=tuple(kept))
