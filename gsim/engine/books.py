"""The decoding sequences of an engine, kept as sums, beside the scheduler and the KV pool that count them one by one.

In an iteration every decoding sequence gains a token, and some take a block. To write that down for each would cost
time per token, so it is written down late: the token counts of a decoding sequence are those of when it joined, and
the pool has not heard of blocks that were taken since the last ``settle``. Whoever needs the pool exact settles first;
while nothing is cached that a prompt could hit, only the number of free blocks matters, and that the sums tell.
"""

from __future__ import annotations

from typing import Final

from gsim.core.batch import Batch, Chunk
from gsim.engine.config import EngineLimits
from gsim.engine.decode_set import DecodeSet
from gsim.engine.kv.run_pool import RunPool
from gsim.engine.ordering import Ordering
from gsim.engine.scheduler import Scheduler
from gsim.engine.sequence import Sequence

# Skips the NamedTuples' Python-level constructors.
_new: Final = tuple.__new__

#: A sequence and how many of its tokens a step computes.
Piece = tuple[Sequence, int]


class Books:
    """A reference scheduler, the decode set that stands for its decoding sequences, and what keeps the two in step."""

    def __init__(self, limits: EngineLimits, needs_max_context: bool, ordering: Ordering | None = None) -> None:
        self.pool = RunPool(
            limits.kv_blocks, limits.block_size, limits.prefix_caching, self._name_quoted, limits.host_kv
        )
        self.scheduler = Scheduler(limits, self.pool, ordering)
        self.decodes = DecodeSet(limits.block_size, needs_max_context)
        self._needs_max_context = needs_max_context
        self._outputs: dict[int, Sequence] = {}
        """Decoding sequences by the segment that they generate: their new blocks enter the cache late."""
        self._admitted = 0
        self._settled = -1
        """The count at which the books were last settled."""

    def join(self, sequence: Sequence) -> None:
        """``sequence`` decodes from now on."""
        self.decodes.join(sequence)
        hold = sequence.hold
        if hold is not None:
            for i in range(hold.first_generated, len(hold.pieces)):
                segment = hold.pieces[i][0]
                if segment >= 0:
                    self._outputs[segment] = sequence

    def leave_due(self) -> list[Sequence]:
        """Take out, for good, who has generated all its tokens; in the order of the batch."""
        if self.pool.has_idle:
            self.settle()
        gone = self.decodes.leave_due()
        for sequence in gone:
            self._give_back(sequence)
        return gone

    def take_out(self, sequence: Sequence) -> None:
        """Take a decoding sequence out before its end."""
        if self.pool.has_idle:
            self.settle()
        self.decodes.leave(sequence)
        self._give_back(sequence)

    def let_go(self, sequence: Sequence) -> None:
        """Return the blocks of a prefilled sequence."""
        if self.pool.has_idle:
            self.settle()
        self.scheduler.let_go(sequence)

    def number(self, sequence: Sequence) -> None:
        """``sequence`` is the last in the batch."""
        self._admitted = sequence.number = self._admitted + 1

    def settle(self) -> None:
        """Book the blocks that the decodes have taken."""
        decodes = self.decodes
        if self._settled == decodes.clock:
            return
        self._settled = decodes.clock
        debt = decodes.blocks() - decodes.held
        if debt:
            self.pool.take(debt)
            decodes.held += debt

    def grow_decodes(self) -> None:
        """Book the blocks of the coming iteration, before those of anybody who is admitted in it."""
        self.settle()
        growth = self.decodes.growth()
        self.pool.take(growth)
        self.decodes.held += growth

    def grow_partial(self, partial: Sequence, tokens: int) -> None:
        """Compute more of a prompt."""
        if partial.hold is not None:
            # Of two blocks with one name the older is hit first: what it quotes comes before it.
            self._name_quoted(partial, 0)
        self.pool.grow(partial, partial.computed + tokens)
        partial.computed += tokens

    def materialise(self) -> None:
        """Bring every decoding sequence's counts up to date, and empty the decode set."""
        self.settle()
        decodes, pool = self.decodes, self.pool
        for sequence in self.scheduler.running:
            if sequence.leaves:
                decodes.leave(sequence)
                decodes.tell(sequence)
                if sequence.hold is not None:
                    pool.name(sequence, sequence.computed)
        decodes.clear()
        self._outputs.clear()

    def used_blocks(self, iterations: int) -> int:
        """Blocks that sequences hold once the decodes have grown by so many iterations."""
        decodes, pool = self.decodes, self.pool
        return pool.total - pool.free + decodes.blocks(iterations) - decodes.held

    def quotes_running_output(self, sequence: Sequence) -> bool:
        """Its prompt may hit what is being generated just now."""
        outputs = self._outputs
        if outputs and sequence.hold is not None:
            for segment, _ in sequence.hold.pieces:
                if segment in outputs:
                    return True
        return False

    def batch(self, pieces: list[Piece], advanced: bool) -> Batch:
        """The decodes and the pieces; ``advanced``: the pieces' tokens are counted as computed already."""
        decodes = self.decodes
        count, context_tokens = decodes.size, decodes.context_tokens
        longest = decodes.max_context_tokens() if self._needs_max_context else 0
        chunks: list[Chunk] = []
        for sequence, tokens in pieces:
            context = sequence.computed - tokens if advanced else sequence.computed
            if tokens > 1:
                chunks.append(_new(Chunk, (tokens, context)))
            else:
                count += 1
                context_tokens += context
                if self._needs_max_context and context > longest:
                    longest = context
        return _new(Batch, (tuple(chunks), count, context_tokens, longest))

    def _give_back(self, sequence: Sequence) -> None:
        if sequence.hold is not None:
            self.pool.name(sequence, sequence.computed)
            hold = sequence.hold
            for i in range(hold.first_generated, len(hold.pieces)):
                segment = hold.pieces[i][0]
                if self._outputs.get(segment) is sequence:
                    del self._outputs[segment]
        del self.scheduler.running[sequence]
        self.pool.release(sequence)

    def _name_quoted(self, sequence: Sequence, first: int) -> bool:
        """Name what was generated of the segments that a prompt quotes from its piece ``first`` on; whether any."""
        outputs = self._outputs
        named = False
        if outputs and sequence.hold is not None:
            pieces = sequence.hold.pieces
            for i in range(first, len(pieces)):
                quoted = outputs.get(pieces[i][0])
                if quoted is not None:
                    # The coming iteration's token included, as the reference names it when it is scheduled.
                    self.pool.name(quoted, quoted.prompt + quoted.base + self.decodes.clock)
                    named = True
        return named
