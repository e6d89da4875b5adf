"""A request inside an engine, and the names of its KV blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import mypyc_attr

from gsim.core.content import block_hashes
from gsim.core.errors import SimulationError
from gsim.core.request import Content, Job
from gsim.engine.config import EngineLimits

if TYPE_CHECKING:
    from gsim.engine.kv_pool import Block, Run


#: The named blocks of who has none; never added to.
_NONE: Final[list[Block]] = []


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


# No cycle passes through it, so the collector need not know of it: there are hundreds of thousands.
@mypyc_attr(acyclic=True)
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
        "number",
        "preemptions",
        "prompt",
        "request_id",
        "run",
        "slot",
        "stop",
        "submitted_s",
        "ticket",
        "tie",
    )

    def __init__(
        self, job: Job, submitted_s: float, tie: int | str, stop: int, kv_tokens: int, names: BlockNames | None
    ):
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
        self.submitted_s = submitted_s
        self.tie = tie
        """Ranks it among those of equal priority that were submitted at the same time."""
        self.ticket: object = None
        """What was handed in with the job."""
        self.generated = 0
        self.computed = 0
        """Tokens whose KV exists, the scheduled iteration's included."""
        self.blocks = 0
        self.cached: list[Block] = _NONE if names is None else []
        """Its named blocks: the first ones of those it holds."""
        self.run: Run | None = None
        """What the cache still has of it while it is preempted, if its blocks have no names."""
        self.hit_tokens = 0
        """Prompt tokens that came out of the prefix cache at its first admission."""
        self.preemptions = 0
        self.aborted = False
        # The decode clock's own: its place in the order of admission, the tokens it had generated when the clock stood
        # at 0 (so that it has base + clock now), the clock at which it leaves (0: it does not decode), and its slot.
        self.number = 0
        self.base = 0
        self.leaves = 0
        self.slot = 0

    @property
    def order(self) -> tuple[int, float, int | str]:
        """How the priority policy ranks it."""
        return self.job.request.priority, self.submitted_s, self.tie

    @property
    def length(self) -> int:
        """Tokens known: prompt and generated."""
        return self.prompt + self.generated


def make_sequence(job: Job, number: int, now_s: float, kv_tokens: int, limits: EngineLimits) -> Sequence | None:
    """The sequence of a job, or None where it can never run: ``max_model_len`` or the KV pool is too small.

    The output ends where the sequence reaches ``max_model_len``, or at ``max_output_tokens``, as in vLLM.
    """
    request = job.request
    prompt = request.prompt_tokens
    if prompt + 1 > limits.max_model_len or limits.blocks_of(prompt) > limits.kv_blocks:
        return None
    names = None
    if request.content:
        _check_content(job)
        if limits.prefix_caching:
            # Traces number their segments from 0, so a negative one belongs to the request alone.
            private_segment = -2 - request.request_id
            names = BlockNames(request.content, job.output_segment, private_segment, limits.block_size)
    stop = job.output_tokens
    if stop > request.max_output_tokens:
        stop = request.max_output_tokens
    if stop > limits.max_model_len - prompt:
        stop = limits.max_model_len - prompt
    return Sequence(job, now_s, number, stop, kv_tokens, names)


def _check_content(job: Job) -> None:
    request = job.request
    tokens = sum(tokens for _, tokens in request.content)
    if tokens != request.prompt_tokens:
        raise SimulationError(
            f"request {request.request_id}: its content has {tokens} tokens, its prompt {request.prompt_tokens}"
        )
