"""One request inside an engine."""

from __future__ import annotations

from gsim.core import Content, Job, block_hashes
from gsim.engine.kv_cache import Block

#: Segments of prompts and outputs that nobody else refers to: far from the ids that traces use.
_OWN_PROMPT = -(1 << 40)
_OWN_OUTPUT = -(1 << 41)


class Sequence:
    """A job's state in the engine: what is known, what is computed, which blocks it holds."""

    __slots__ = (
        "arrival",
        "blocks",
        "cached_tokens",
        "computed",
        "generated",
        "hashes",
        "job",
        "kv_tokens",
        "limit",
        "priority",
        "prompt_tokens",
        "request_id",
        "started",
    )

    def __init__(self, job: Job, arrival: int, max_model_len: int, kv_tokens: int = 0) -> None:
        request = job.request
        self.job = job
        self.request_id = request.request_id
        self.priority = request.priority
        self.arrival = arrival
        """Order of submission, the tie-break of the priority policy."""
        self.prompt_tokens = request.prompt_tokens
        self.limit = min(job.output_tokens, max_model_len - request.prompt_tokens)
        """Output tokens after which it ends (vLLM stops a sequence at ``max_model_len``)."""
        self.generated = 0
        self.computed = 0
        """Tokens whose KV exists (advanced when an iteration is scheduled)."""
        self.blocks: list[Block] = []
        self.hashes: list[int] = []
        self.kv_tokens = kv_tokens
        """Leading tokens whose KV arrives with the request."""
        self.cached_tokens = 0
        self.started = False
        """It has shown its first token."""

    @property
    def known(self) -> int:
        """Tokens that exist: the prompt and what was generated."""
        return self.prompt_tokens + self.generated

    def block_hashes(self, count: int, block_size: int) -> list[int]:
        """The hashes of its first ``count`` full blocks (all their tokens are known)."""
        have = len(self.hashes)
        if have < count:
            parent = self.hashes[-1] if have else 0
            self.hashes += block_hashes(self._content(), block_size, parent, have * block_size)
        return self.hashes[:count]

    def _content(self) -> Content:
        content = self.job.request.content
        if not content:
            # Nobody shares it but the request itself, after a preemption; one segment, so that a request resumed by
            # its token ids goes on where it was.
            return ((_OWN_PROMPT - self.request_id, self.known),)
        if not self.generated:
            return content
        segment = self.job.output_segment
        return (*content, (segment if segment != -1 else _OWN_OUTPUT - self.request_id, self.generated))
