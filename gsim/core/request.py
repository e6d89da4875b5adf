"""Requests, jobs and sessions: what is asked, what is true of it, and in which order it is asked.

``Request`` is what a client reveals. The true output length lives on ``Job``, which only the engine and the declared
oracles receive: a router that cheats does not type-check. NamedTuples, because a run makes millions of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from gsim.core.scheduling import Forecast

# Skips the NamedTuples' Python-level constructors: a fraction of what _replace costs.
_new: Final = tuple.__new__

#: What a prompt is made of: (segment id, tokens) pieces, in order. Token k of a segment is the same wherever the
#: segment appears, so two prompts share a prefix exactly where their leading segments agree. An empty content means
#: that the prompt shares nothing with any other.
Content = tuple[tuple[int, int], ...]


class Request(NamedTuple):
    """What a client reveals of one inference request."""

    request_id: int
    arrival_s: float
    prompt_tokens: int
    max_output_tokens: int
    """The client's ``max_tokens``: an upper limit that reveals nothing about the true length."""
    slo_s: float
    """End-to-end latency objective: the request is good if it finishes within this time of its arrival."""
    task: str = "default"
    """Task class (``code_agent``, ``text_to_sql`` ...), as a client would tag it."""
    session_id: int = -1
    turn: int = 0
    content: Content = ()
    text: str | None = None
    """The prompt's text where the trace has it (for text-based predictors)."""
    priority: int = 0
    """Lower is served first, where the engine's policy is ``priority``."""

    @property
    def deadline_s(self) -> float:
        """The absolute time by which the request must have finished."""
        return self.arrival_s + self.slo_s


class Dependency(NamedTuple):
    """A job starts ``delay_s`` after ``request_id`` (of the same session) is dispatched or completed."""

    request_id: int
    delay_s: float
    on_completion: bool = True


class Job(NamedTuple):
    """A request and what only the engine may know of it."""

    request: Request
    output_tokens: int
    """The true number of output tokens (at least 1)."""
    output_segment: int = -1
    """The segment id of the generated text, by which later prompts refer to it; -1: nobody ever does."""
    after: tuple[Dependency, ...] = ()
    """What must happen first. Empty: the job starts with its session. Else ``request.arrival_s`` is not yet known
    (NaN) and is set when the last dependency is met (closed loop)."""
    forecast: Forecast | None = None
    """What the gateway predicts and sends along, where the policy of an engine's queue asks for it."""

    def arriving(self, now_s: float) -> Job:
        """The same job, submitted at ``now_s``."""
        request = self.request
        arriving = _new(Request, (request[0], now_s, *request[2:]))
        return _new(Job, (arriving, *self[1:]))

    def resumed(self, generated_tokens: int) -> Job:
        """The job that continues this one elsewhere by token ids: what was generated becomes part of the prompt."""
        if not 0 <= generated_tokens < self.output_tokens:
            raise ValueError(f"generated_tokens must be in [0, {self.output_tokens}), not {generated_tokens}")
        if generated_tokens == 0:
            return self
        old = self.request
        content = old.content
        if content:
            content = (*content, (self.output_segment, generated_tokens))
        return self._replace(
            request=old._replace(
                prompt_tokens=old.prompt_tokens + generated_tokens,
                max_output_tokens=old.max_output_tokens - generated_tokens,
                content=content,
            ),
            output_tokens=self.output_tokens - generated_tokens,
        )


class Session(NamedTuple):
    """The requests of one agent run. A single request is a session of one job."""

    session_id: int
    arrival_s: float
    jobs: tuple[Job, ...]
    slo_s: float = float("inf")
    """Objective for the makespan of the whole session (first arrival to last completion)."""


class Population(NamedTuple):
    """A closed population of agents: each starts its next session some time after its last one has ended.

    What an agent asks does not depend on when it asks: its k-th session is the same however fast the pool is.
    """

    first: tuple[Session, ...]
    """One session per agent, in order of arrival; agent i's has ``session_id`` i. It may lack its first turns: then
    the agent was in the middle of it when the run began."""
    later: Iterator[Session]
    """Endless, dealt out in turn: agent i gets every session whose ``session_id`` is i modulo the number of agents.
    Times are not known yet (NaN)."""
    think_s: float
    """From the end of an agent's session to the start of its next one (more than 0)."""
