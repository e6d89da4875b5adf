"""The scheduler of the decode clock: it goes from one change of the batch to the next, not from iteration to iteration.

While a batch only decodes, nothing but counts changes, so one plan covers all iterations up to the next change: a
sequence ends, or one that waits can be admitted. What comes next is planned by the cheapest way that gives the
schedule of the reference scheduler (``scheduler.py``):

- a stretch of decodes, and an admission that cannot hit the prefix cache: from sums over the batch;
- an admission that may hit the prefix cache: by the reference's own admission, on the pool;
- what is rare (too few blocks, a prefill threshold): by a whole step of the reference, for which every
  sequence's own counts are written down first.

Counts of iterations only: how long they take is known to ``decode_clock.py``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from gsim.core.batch import Batch, Chunk
from gsim.core.events import EventKind
from gsim.engine.books import Books, Piece
from gsim.engine.config import EngineLimits
from gsim.engine.ordering import Ordering
from gsim.engine.scheduler import Step
from gsim.engine.sequence import Sequence

_FIRST_TOKEN: Final = EventKind.FIRST_TOKEN
_FINISHED: Final = EventKind.FINISHED
_PREEMPTED: Final = EventKind.PREEMPTED
_REJECTED: Final = EventKind.REJECTED
_PREFILLED: Final = EventKind.PREFILLED

#: What happens to a sequence at the end of an iteration.
Happening = tuple[EventKind, Sequence]


class Kind(IntEnum):
    """What comes next."""

    UNKNOWN = 0
    """Not planned yet."""
    RUN = 1
    """Pure decodes up to the next change."""
    PLAIN = 2
    """An admission step of which everything is known in advance."""
    SHARED = 3
    """An admission step that looks into the prefix cache: known when it begins."""
    REFERENCE = 4
    """A step of the reference scheduler."""
    STALLED = 5
    """Nothing: nobody runs, and who waits finds no blocks, since prefilled sequences hold them."""


# Skips the NamedTuples' Python-level constructors.
_new: Final = tuple.__new__

# Members of an enum are looked up slowly; these are compared several times per event.
_UNKNOWN: Final = Kind.UNKNOWN
_RUN: Final = Kind.RUN
_PLAIN: Final = Kind.PLAIN
_SHARED: Final = Kind.SHARED
_REFERENCE: Final = Kind.REFERENCE
_STALLED: Final = Kind.STALLED


class ClockedScheduler:
    """The changes of a batch, one after the other: plan what comes next, begin it, end it."""

    def __init__(self, limits: EngineLimits, needs_max_context: bool, ordering: Ordering | None = None) -> None:
        self.limits = limits
        self.books = Books(limits, needs_max_context, ordering)
        self.scheduler = self.books.scheduler
        self.pool = self.books.pool
        self.decodes = self.books.decodes
        self.iterations = 0
        """Length of the planned run."""
        self.batch = Batch((), 0, 0, 0)
        """Of the planned or begun step."""
        self.put_off: list[Happening] = []
        """Who was preempted or rejected when the step began."""
        self._pieces: list[Piece] = []
        """Prefill pieces of the planned or begun step."""
        self._partial: Sequence | None = None
        """The running sequence whose prompt is not computed to its end: always the last admitted."""
        self._irregular = False
        """There are several, or another one: only the reference goes on from here."""
        self._needs_max_context = needs_max_context
        self._block_size = limits.block_size
        self._max_tokens = limits.max_num_batched_tokens
        self._max_seqs = limits.max_num_seqs
        self._watermark = limits.watermark_blocks
        self._cuts_prompts = limits.long_prefill_token_threshold > 0

    # --- plan: nothing that could be seen changes ----------------------------------------------------------------

    def plan(self) -> Kind:
        """What comes next if nobody interferes; there must be a running or a waiting sequence."""
        if self._irregular:
            return _REFERENCE
        kind = _UNKNOWN
        if self._partial is not None:
            kind = self._plan_partial(self._partial)
        elif self.scheduler.waiting:
            kind = self._plan_admission([], self._max_tokens - self.decodes.size, 0)
        if kind is not _UNKNOWN:
            return kind
        decodes = self.decodes
        if decodes.size == 0:
            return _REFERENCE if self.scheduler.running else _STALLED
        self.iterations = iterations = decodes.iterations_to_change(self._most_blocks())
        return _RUN if iterations else _REFERENCE

    def _plan_partial(self, partial: Sequence) -> Kind:
        """The next piece of the prompt under way, and who fits behind it."""
        budget = self._max_tokens - self.decodes.size
        tokens = min(partial.length - partial.computed, budget)
        grown = self.limits.blocks_of(partial.computed + tokens) - partial.blocks
        if self._cuts_prompts or tokens <= 0 or grown > self._free():
            return _REFERENCE
        return self._plan_admission([(partial, tokens)], budget - tokens, grown)

    def _plan_admission(self, pieces: list[Piece], budget: int, grown: int) -> Kind:
        """Behind ``pieces``, which take ``grown`` blocks, admit whom ``budget`` allows. UNKNOWN: there is nobody."""
        decodes, running = self.decodes, self.scheduler.running
        size, watermark = self._block_size, self._watermark
        slots = self._max_seqs - len(running)
        if not pieces and (slots <= 0 or budget <= 0):
            return _UNKNOWN
        # Free blocks once the decodes have grown: a bound that is cheap, and where that does not do, their number.
        partial_blocks = self._partial.blocks if self._partial is not None else 0
        free = self._most_blocks() - decodes.blocks_at_most(1) - partial_blocks - grown
        exact = False
        for sequence in self.scheduler.waiting:
            if slots <= 0 or budget <= 0:
                break
            if self._cuts_prompts or sequence.hold is not None or sequence.own is not None or sequence.kv_tokens:
                return self._plan_unplain(sequence, behind=bool(pieces))
            tokens = sequence.prompt + sequence.generated
            need = -(-tokens // size)
            if watermark and (pieces or running):
                need += watermark
            if need > free and not exact:
                free, exact = self._free() - grown, True
            if need > free:
                break
            if tokens > budget:
                tokens = budget
            blocks = -(-tokens // size)
            grown += blocks
            free -= blocks
            budget -= tokens
            slots -= 1
            pieces.append((sequence, tokens))
        if not pieces:
            return _UNKNOWN
        if free < 0 and self._free() < grown:
            return _REFERENCE
        self._pieces = pieces
        self.batch = self._plain_batch(pieces)
        return _PLAIN

    def _plan_unplain(self, sequence: Sequence, behind: bool) -> Kind:
        """The next in the queue may hit the cache, or the reference alone knows where it comes in."""
        if self._free() < 0:
            return _REFERENCE
        if not behind and self._head_blocked(sequence):
            return _UNKNOWN
        return _REFERENCE if self._cuts_prompts else _SHARED

    def _plain_batch(self, pieces: list[Piece]) -> Batch:
        first, tokens = pieces[0]
        if len(pieces) > 1 or tokens == 1 or first is self._partial:
            return self.books.batch(pieces, advanced=False)
        # By far the most frequent step: one prompt, whole.
        decodes = self.decodes
        longest = decodes.max_context_tokens() if self._needs_max_context else 0
        chunk = _new(Chunk, (tokens, 0))
        return _new(Batch, ((chunk,), decodes.size, decodes.context_tokens, longest))

    def _free(self) -> int:
        """Blocks that are free once the decodes have grown by one iteration."""
        partial_blocks = self._partial.blocks if self._partial is not None else 0
        return self._most_blocks() - self.decodes.blocks(1) - partial_blocks

    def _most_blocks(self) -> int:
        """What all who run may count as theirs."""
        return self.pool.total + self.pool.shared - self.scheduler.kept_blocks

    def _head_blocked(self, sequence: Sequence) -> bool:
        """Too few blocks are free for the head of the queue (cached blocks that nobody holds do not help it)."""
        need = self.limits.blocks_of(sequence.length) + (self._watermark if self.scheduler.running else 0)
        free = self._free()
        if need <= free or self.books.quotes_running_output(sequence):
            # In the second case only the step itself can tell.
            return False
        self.books.settle()
        return need - self.pool.held_among(self.pool.match(sequence)) > free

    # --- begin ---------------------------------------------------------------------------------------------------

    def begin_plain(self) -> None:
        """Begin the planned step."""
        books, pool, scheduler = self.books, self.pool, self.scheduler
        if pool.has_idle:
            books.grow_decodes()
        for sequence, tokens in self._pieces:
            if sequence is self._partial:
                books.grow_partial(sequence, tokens)
            else:
                scheduler.waiting.popleft()
                books.number(sequence)
                scheduler.running[sequence] = None
                sequence.blocks = blocks = -(-tokens // self._block_size)
                pool.take(blocks)
                sequence.computed = tokens

    def begin_shared(self) -> None:
        """Form and begin a step with the reference's own admission."""
        books = self.books
        books.grow_decodes()
        step = Step()
        partial = self._partial
        budget = self._max_tokens - self.decodes.size
        if partial is not None:
            tokens = min(partial.length - partial.computed, budget)
            books.grow_partial(partial, tokens)
            step.scheduled[partial] = tokens
            budget -= tokens
        self.scheduler.schedule_waiting(step, budget, 0)
        for sequence in step.scheduled:
            if sequence is not partial:
                books.number(sequence)
        self._pieces = list(step.scheduled.items())
        self.batch = books.batch(self._pieces, advanced=True)

    def begin_reference(self) -> bool:
        """Form and begin a step of the reference scheduler; False where it only put sequences off."""
        self.books.materialise()
        self._partial = None
        step = self.scheduler.schedule()
        self.put_off = [(_PREEMPTED, sequence) for sequence in step.preempted]
        self.put_off += [(_REJECTED, sequence) for sequence in step.rejected]
        self._pieces = list(step.scheduled.items())
        if not step.scheduled:
            self._adopt()
            return False
        self.batch = step.batch(self._needs_max_context)
        return True

    def in_flight(self, sequence: Sequence) -> int:
        """Tokens of a sequence that the begun step computes (decodes apart)."""
        return next((tokens for piece, tokens in self._pieces if piece is sequence), 0)

    # --- end -----------------------------------------------------------------------------------------------------

    def end_run(self, iterations: int) -> list[Happening]:
        """So many iterations of the run are over."""
        self.decodes.run(iterations)
        return [(_FINISHED, sequence) for sequence in self.books.leave_due()]

    def end_step(self) -> list[Happening]:
        """The step that was planned as PLAIN or SHARED is over."""
        decodes, books = self.decodes, self.books
        decodes.run(1)
        happened: list[Happening] = []
        if decodes.anybody_due():
            happened += [(_FINISHED, sequence) for sequence in books.leave_due()]
        self._partial = None
        for sequence, _ in self._pieces:
            if sequence.computed < sequence.prompt + sequence.generated:
                self._partial = sequence
            elif not self._token(sequence, happened):
                books.join(sequence)
        self._pieces = []
        return happened

    def end_reference(self) -> list[Happening]:
        """The reference's step is over."""
        happened: list[Happening] = []
        for sequence, _ in self._pieces:
            if sequence.computed == sequence.length:
                self._token(sequence, happened)
                self.decodes.tell(sequence)
        self._pieces = []
        self._adopt()
        return happened

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out at a boundary: a running one that was aborted, or a prefilled one that was released."""
        if not sequence.aborted:
            self.books.let_go(sequence)
        elif sequence.leaves:
            self.books.take_out(sequence)
        else:
            self.scheduler.finish(sequence)
            if sequence is self._partial:
                self._partial = None

    def _token(self, sequence: Sequence, happened: list[Happening]) -> bool:
        """A sequence outside the decode set has a new token; whether it was the last."""
        sequence.generated = generated = sequence.generated + 1
        if sequence.aborted:
            return False
        if generated == 1:
            happened.append((_FIRST_TOKEN, sequence))
        if generated < sequence.stop:
            return False
        happened.append((_PREFILLED if sequence.keep else _FINISHED, sequence))
        self.scheduler.finish(sequence)
        return True

    def _adopt(self) -> None:
        """Go on from the reference's state with sums, unless several prompts are under way."""
        running = self.scheduler.running
        last = next(reversed(running)) if running else None
        prefilling = [sequence for sequence in running if not _decodes(sequence)]
        self._irregular = bool(prefilling) and prefilling != [last]
        if self._irregular:
            return
        for sequence in running:
            self.books.number(sequence)
            if sequence is last and prefilling:
                self._partial = sequence
            else:
                self.books.join(sequence)


def _decodes(sequence: Sequence) -> bool:
    """It has its first token and lacks the KV of its last one only."""
    return sequence.generated > 0 and sequence.prompt + sequence.generated - sequence.computed == 1
