"""A request inside an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import mypyc_attr

from gsim.core.errors import SimulationError
from gsim.core.lru import Entry
from gsim.core.request import Content, Job

if TYPE_CHECKING:
    from gsim.engine.config import EngineLimits
    from gsim.engine.kv.kv_pool import KvPool

#: More tokens than any request has: the length of the piece that is being generated, whose end nobody knows yet.
_ENDLESS: Final = 1 << 60


class Hold:
    """What a KV pool keeps of a sequence whose blocks have names. Each kind of pool has its own kind of hold."""

    __slots__ = ("first_generated", "pieces")

    def __init__(self, pieces: Content, first_generated: int) -> None:
        self.pieces = pieces
        """The prompt and what is generated after it, without empty pieces; equal tokens are equal names."""
        self.first_generated = first_generated
        """The first of the pieces that hold generated text."""


class OwnBlocks(Entry):
    """The first blocks of a sequence without names, cached and unreferenced."""

    __slots__ = ("hittable",)

    def __init__(self, blocks: int, hittable: bool) -> None:
        super().__init__(blocks)
        self.hittable = hittable
        """The sequence was preempted, and waits: it can still hit them."""


# No cycle passes through it, so the collector need not know of it: there are hundreds of thousands.
@mypyc_attr(acyclic=True)
class Sequence:
    """One request on one engine. ``prompt`` counts tokens; ``blocks`` counts KV blocks held."""

    __slots__ = (
        "aborted",
        "base",
        "blocks",
        "computed",
        "drafts",
        "generated",
        "hit_tokens",
        "hold",
        "job",
        "keep",
        "key",
        "kv_tokens",
        "leaves",
        "luck",
        "number",
        "own",
        "preemptions",
        "prompt",
        "request_id",
        "slot",
        "stop",
        "submitted_s",
        "ticket",
        "tie",
    )

    def __init__(self, job: Job, submitted_s: float, tie: int | str, stop: int, kv_tokens: int, hold: Hold | None):
        request = job.request
        self.job = job
        self.request_id = request.request_id
        self.prompt = request.prompt_tokens
        self.stop = stop
        """Output tokens after which it finishes."""
        self.kv_tokens = kv_tokens
        """Leading tokens whose KV came with it and is not yet taken in."""
        self.hold = hold
        """Its named blocks; None: it shares nothing with anybody (its blocks have no names)."""
        self.submitted_s = submitted_s
        self.tie = tie
        """Ranks it among those of equal priority that were submitted at the same time."""
        self.ticket: object = None
        """What was handed in with the job."""
        self.generated = 0
        self.computed = 0
        """Tokens whose KV exists, the scheduled iteration's included."""
        self.blocks = 0
        self.drafts = 0
        """Tokens that were proposed for it, to be verified in its next iteration (``speculation.py``)."""
        self.luck: list[float] | None = None
        """What decides whether they are accepted, where the engine speculates."""
        self.own: OwnBlocks | None = None
        """What the cache still has of it while it is preempted, if its blocks have no names."""
        self.hit_tokens = 0
        """Prompt tokens that came out of the prefix cache at its first admission."""
        self.preemptions = 0
        self.key = 0.0
        """Its place in a queue that is ordered by keys, as when it was queued last."""
        self.aborted = False
        self.keep = False
        """Its blocks are held beyond its end, until they are released: only its first token is computed here."""
        # The decode clock's own: its place in the order of admission, the tokens it had generated when the clock stood
        # at 0 (so that it has base + clock now), the clock at which it leaves (0: it does not decode), and its slot.
        self.number = 0
        self.base = 0
        self.leaves = 0
        self.slot = 0

    @property
    def order(self) -> tuple[float, float, int | str]:
        """How a queue by keys ranks it."""
        return self.key, self.submitted_s, self.tie

    @property
    def length(self) -> int:
        """Tokens known: prompt and generated."""
        return self.prompt + self.generated


def only_prefill(sequence: Sequence) -> None:
    """Let a sequence end with its first token, its blocks held; one that has no more tokens than that ends as any."""
    if sequence.stop > 1:
        sequence.stop = 1
        sequence.keep = True


def make_sequence(
    job: Job, number: int, now_s: float, kv_tokens: int, limits: EngineLimits, pool: KvPool
) -> Sequence | None:
    """The sequence of a job, or None where it can never run: ``max_model_len`` or the KV pool is too small.

    The output ends where the sequence reaches ``max_model_len``, or at ``max_output_tokens``, as in vLLM.
    """
    request = job.request
    prompt = request.prompt_tokens
    if prompt + 1 > limits.max_model_len or limits.blocks_of(prompt) > limits.kv_blocks:
        return None
    hold = None
    if request.content or pool.host is not None:
        pieces = _pieces(job)
        if pool.caching:
            hold = pool.hold_of(pieces, len(pieces) - 1)
    stop = job.output_tokens
    if stop > request.max_output_tokens:
        stop = request.max_output_tokens
    if stop > limits.max_model_len - prompt:
        stop = limits.max_model_len - prompt
    return Sequence(job, now_s, number, stop, kv_tokens, hold)


def _pieces(job: Job) -> Content:
    """The prompt and the generated text. Raises ``SimulationError`` where the content is not as long as the prompt.

    Text that no other prompt can refer to (segment -1) gets a segment of its own, so that nothing but the sequence
    itself can hit it. Traces number their segments from 0, so a negative one belongs to the request alone.
    """
    request = job.request
    content = request.content or ((-1, request.prompt_tokens),)
    plain = True
    length = 0
    for segment, tokens in content:
        length += tokens
        if segment == -1 or tokens == 0:
            plain = False
    if length != request.prompt_tokens:
        raise SimulationError(
            f"request {request.request_id}: its content has {length} tokens, its prompt {request.prompt_tokens}"
        )
    private = -2 - request.request_id
    if not plain:
        content = tuple([(private if segment == -1 else segment, tokens) for segment, tokens in content if tokens])
    output = job.output_segment
    return (*content, (private if output == -1 else output, _ENDLESS))
