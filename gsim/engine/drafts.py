"""What becomes of proposed tokens on one engine (what is proposed: ``speculation.py``)."""

from __future__ import annotations

import numpy as np

from gsim.core.batch import Batch
from gsim.core.protocols import LatencyModel
from gsim.core.streams import Streams
from gsim.engine.scheduler import Step
from gsim.engine.sequence import Sequence
from gsim.engine.speculation import SpeculationConfig


class Drafts:
    """What becomes of the proposals on one engine, and what they cost.

    Whether a token is accepted is drawn once for each token of an answer, from a stream of the request's own: the n-th
    token from the end of a request meets the same luck under every router, on every card and after every move.
    """

    def __init__(self, config: SpeculationConfig, streams: Streams) -> None:
        self.tokens = config.num_speculative_tokens
        self.verified = 0
        """Verifications, over all sequences."""
        self.drafted = 0
        """Tokens that were proposed and verified."""
        self.accepted = 0
        """Of these, the ones that became part of an answer."""
        self._config = config
        self._chances: dict[str, tuple[float, ...]] = {}
        self._key = int(streams.stream("speculation").integers(1 << 63))

    def emitted(self, sequence: Sequence) -> int:
        """Tokens that ``sequence`` gets from the iteration that ends; what was rejected of it is no longer computed.

        The answer ends where it was to end, whatever else was accepted.
        """
        drafts = sequence.computed - sequence.length
        if drafts <= 0:
            return 1
        left = sequence.stop - sequence.generated
        accepted = self._accepted(sequence, min(drafts, left - 1))
        sequence.computed -= drafts - accepted
        self.verified += 1
        self.drafted += drafts
        self.accepted += accepted
        return accepted + 1

    def counts(self) -> dict[str, int]:
        """What has been verified so far, by the names of result columns."""
        return {"verified": self.verified, "drafted_tokens": self.drafted, "accepted_tokens": self.accepted}

    def _accepted(self, sequence: Sequence, drafts: int) -> int:
        """How many of the first ``drafts`` proposals are accepted."""
        luck = sequence.luck
        if luck is None:
            luck = sequence.luck = self._luck(sequence)
        task = sequence.job.request.task
        chances = self._chances.get(task)
        if chances is None:
            chances = self._chances[task] = self._config.chances(task)
        # Counted from the end of the answer, which stays where it is when a request moves.
        place = sequence.job.output_tokens - sequence.generated
        for i in range(drafts):
            if luck[place - 1 - i] >= chances[i]:
                return i
        return drafts

    def _luck(self, sequence: Sequence) -> list[float]:
        bits = np.random.Philox(key=np.array([self._key, sequence.request_id % (1 << 64)], dtype=np.uint64))
        luck: list[float] = np.random.Generator(bits).random(sequence.job.output_tokens).tolist()
        return luck

    def drafting_s(self, step: Step, batch: Batch, latency: LatencyModel, needs_max_context: bool) -> float:
        """Seconds of proposing at the end of an iteration: one pass over its tokens, then one per further token.

        As an EAGLE head works: its first pass goes over all that the iteration has computed (prompts, too), the others
        over one token for each sequence that has got a token.
        """
        config = self._config
        sequences = context_tokens = longest = 0
        for sequence in step.scheduled:
            if sequence.computed >= sequence.length:
                sequences += 1
                context_tokens += sequence.length
                longest = max(longest, sequence.length)
        share_s = latency.iteration_s(batch) if config.draft_share else 0.0
        if sequences == 0:
            return config.draft_share * share_s
        if config.draft_share and self.tokens > 1:
            further = Batch((), sequences, context_tokens, longest if needs_max_context else 0)
            share_s += (self.tokens - 1) * latency.iteration_s(further)
        return config.draft_share * share_s + self.tokens * config.draft_s
