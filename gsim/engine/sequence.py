"""A request inside an engine, and the names of its KV blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsim.core.content import block_hashes
from gsim.core.errors import SimulationError
from gsim.core.request import Content, Job

if TYPE_CHECKING:
    from gsim.engine.kv_pool import Block, Run

#: Longer than any output: the piece of content that stands for text not yet generated.
UNBOUNDED_TOKENS = 1 << 62


class BlockNames:
    """The hashes of a sequence's full KV blocks, prompt first, then generated text as far as it is asked for.

    Text that no other prompt can refer to (output segment -1) gets a segment of its own, so that nothing but the
    sequence itself can hit it.
    """

    __slots__ = ("_block_size", "_content", "_names", "_output")

    def __init__(self, content: Content, output_segment: int, private_segment: int, block_size: int) -> None:
        self._content = tuple((private_segment if segment == -1 else segment, tokens) for segment, tokens in content)
        self._output = private_segment if output_segment == -1 else output_segment
        self._block_size = block_size
        self._names = block_hashes(self._content, block_size)

    def first(self, blocks: int) -> list[int]:
        """The names of at least the first ``blocks`` blocks."""
        names = self._names
        if len(names) < blocks:
            size = self._block_size
            prompt_tokens = sum(tokens for _, tokens in self._content)
            whole = (*self._content, (self._output, blocks * size - prompt_tokens))
            names += block_hashes(whole, size, parent=names[-1] if names else 0, skip=len(names) * size)
        return names


class Sequence:
    """One request on one engine. ``prompt`` counts tokens; ``blocks`` counts KV blocks held."""

    __slots__ = (
        "aborted",
        "base",
        "blocks",
        "cached",
        "computed",
        "generated",
        "hit_tokens",
        "job",
        "kv_tokens",
        "leaves",
        "names",
        "order",
        "preemptions",
        "prompt",
        "request_id",
        "run",
        "stop",
    )

    def __init__(self, job: Job, order: tuple[int, float, int], stop: int, kv_tokens: int, names: BlockNames | None):
        request = job.request
        self.job = job
        self.request_id = request.request_id
        self.prompt = request.prompt_tokens
        self.stop = stop
        """Output tokens after which it finishes."""
        self.kv_tokens = kv_tokens
        """Leading tokens whose KV came with it and is not yet taken in."""
        self.names = names
        """None: shares nothing with anybody (its blocks have no names)."""
        self.order = order
        """(priority, submission time, submission number): how the priority policy ranks it."""
        self.generated = 0
        self.computed = 0
        """Tokens whose KV exists, the scheduled iteration's included."""
        self.blocks = 0
        self.cached: list[Block] = []
        """Its named blocks: the first ones of those it holds."""
        self.run: Run | None = None
        """What the cache still has of it while it is preempted, if its blocks have no names."""
        self.hit_tokens = 0
        """Prompt tokens that came out of the prefix cache at its first admission."""
        self.preemptions = 0
        self.aborted = False
        # The decode clock's own: tokens generated minus the clock, and the count at which it leaves.
        self.base = 0
        self.leaves = 0

    @property
    def length(self) -> int:
        """Tokens known: prompt and generated."""
        return self.prompt + self.generated


def private_segment(request_id: int) -> int:
    """A segment id that belongs to one request alone (traces number theirs from 0)."""
    return -2 - request_id


def check_content(job: Job) -> None:
    """Refuse a job whose content does not add up to its prompt."""
    content = job.request.content
    if content and sum(tokens for _, tokens in content) != job.request.prompt_tokens:
        raise SimulationError(
            f"request {job.request.request_id}: its content has {sum(tokens for _, tokens in content)} tokens, "
            f"its prompt {job.request.prompt_tokens}"
        )
