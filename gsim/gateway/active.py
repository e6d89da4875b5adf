"""A request in flight, as the gateway keeps it."""

from __future__ import annotations

from math import inf, nan
from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from gsim.core import Job

if TYPE_CHECKING:
    from gsim.gateway.move_log import Move


# No cycle passes through it, so the collector need not know of it: there are hundreds of thousands.
@mypyc_attr(acyclic=True)
class Active:
    """One request from its arrival to its end, as the gateway keeps it."""

    __slots__ = (
        "cached_tokens",
        "charged_tokens",
        "dispatched_s",
        "first_token_s",
        "generated_before",
        "held",
        "instance",
        "instance_first_token_s",
        "job",
        "migrations",
        "move",
        "moved_from",
        "moved_s",
        "moving",
        "origin",
        "predicted_tokens",
        "preemptions",
        "previous",
        "prompt_tokens",
        "recomputed_tokens",
        "request_id",
        "sent_to",
        "slot",
    )

    def __init__(self, job: Job) -> None:
        self.origin = job
        """As it arrived."""
        self.job = job
        """As it is on its instance (after a move: with the generated tokens in its prompt)."""
        self.request_id = job.request.request_id
        self.prompt_tokens = job.request.prompt_tokens
        """As it is on its instance."""
        self.instance = -1
        self.dispatched_s = nan
        """When it was last sent to an instance."""
        self.first_token_s = nan
        """When the client saw the first token."""
        self.instance_first_token_s = nan
        """First token from the present instance."""
        self.generated_before = 0
        """Tokens from earlier instances."""
        self.predicted_tokens = nan
        self.charged_tokens = 0.0
        """What it added to ``in_flight_tokens``."""
        self.cached_tokens = 0
        self.recomputed_tokens = 0
        """Tokens that were computed again because the request moved or its instance crashed."""
        self.preemptions = 0
        self.migrations = 0
        self.moved_from = -1
        """The instance that it was on before its last move."""
        self.move: Move | None = None
        """Its last move, until it has shown a token at the target."""
        self.moving = False
        self.held = False
        self.slot = -1
        """In the table of active requests (-1: in none)."""
        self.sent_to = -1
        """The instance that it was last sent to."""
        self.previous = -1
        """The instance that it was on before, where it was sent again after a move."""
        self.moved_s = -inf
        """When that was."""

    def resume(self, generated_tokens: int) -> None:
        """It has left its instance, where it had generated so many tokens: they go into its prompt."""
        self.generated_before += generated_tokens
        self.job = self.job.resumed(generated_tokens)
        self.prompt_tokens = self.job.request.prompt_tokens
        self.instance = -1
