"""A request in flight, as the gateway keeps it."""

from __future__ import annotations

from math import inf, isnan, nan
from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from gsim.core import Job, Progress

if TYPE_CHECKING:
    from gsim.gateway.move_log import Move


# No cycle passes through it, so the collector need not know of it: there are hundreds of thousands.
@mypyc_attr(acyclic=True)
class Active:
    """One request from its arrival to its end, as the gateway keeps it."""

    __slots__ = (
        "cached_tokens",
        "carried_tokens",
        "charged_tokens",
        "computed_tokens",
        "dispatched_s",
        "first_token_s",
        "generated_before",
        "held",
        "instance",
        "instance_first_token_s",
        "job",
        "lost_tokens",
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
        "retries",
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
        """Prompt tokens that came out of prefix caches, over all instances that it was on."""
        self.computed_tokens = 0
        """Prompt tokens that were computed, over all of them."""
        self.recomputed_tokens = 0
        """Of those, what had been computed before, on an instance that it left."""
        self.carried_tokens = 0
        """Leading tokens whose KV was copied to its instance with it."""
        self.lost_tokens = 0
        """Leading tokens whose KV existed where it was before, and did since it last showed a first token."""
        self.preemptions = 0
        self.migrations = 0
        self.retries = 0
        """How often it was sent again because its instance was lost."""
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

    def prefilled(self, tokens: int, cached_tokens: int) -> None:
        """Account for the first ``tokens`` of its prompt on its instance, which found ``cached_tokens`` in its cache.

        What is no hit and did not come with it was computed, and again so as far as its KV existed elsewhere before.
        """
        held = cached_tokens if cached_tokens > self.carried_tokens else self.carried_tokens
        if tokens > held:
            self.computed_tokens += tokens - held
            self.recomputed_tokens += max(0, min(tokens, self.lost_tokens) - held)
        self.cached_tokens += max(0, min(tokens, cached_tokens) - self.carried_tokens)

    def resume(self, progress: Progress) -> None:
        """It has left its instance: the tokens that it had generated there go into its prompt."""
        if isnan(self.instance_first_token_s):
            self.prefilled(progress.computed_tokens, progress.cached_tokens)
        self.generated_before += progress.generated_tokens
        self.job = self.job.resumed(progress.generated_tokens)
        self.prompt_tokens = self.job.request.prompt_tokens
        # The newest token has been sampled, not computed (the iteration that was to compute it is lost).
        self.lost_tokens = max(self.lost_tokens, min(progress.computed_tokens, self.prompt_tokens - 1))
        self.carried_tokens = 0
        self.instance = -1
