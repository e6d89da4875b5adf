"""The reference's schedule on sums: what changes next in a batch, without a glance at sequences that only decode.

Admission steps without prefix sharing are planned from sums; those with it run the reference's own admission on the
pool; whatever is rarer (too few blocks, priorities, a prefill threshold) runs the reference's whole step on
materialised sequences. Nothing here knows about time.
"""

from __future__ import annotations

from enum import IntEnum

from gsim.core.batch import Batch, Chunk
from gsim.core.events import EventKind
from gsim.engine.config import EngineLimits
from gsim.engine.decode_set import DecodeSet
from gsim.engine.scheduler import Scheduler, Step
from gsim.engine.sequence import Sequence

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


class ClockedScheduler:
    """A scheduler whose decoding sequences are a ``DecodeSet``.

    Sequences of the decode set carry stale counts; the pool's books run behind by what they have grown since they were
    last settled. Where nothing in the cache can be hit, only the number of free blocks matters, and they may.
    """

    def __init__(self, limits: EngineLimits, needs_max_context: bool) -> None:
        self.limits = limits
        self.scheduler = Scheduler(limits)
        self.pool = self.scheduler.pool
        self.pool.before_match = self._name_outputs
        self.decodes = DecodeSet(limits.block_size, needs_max_context)
        self.iterations = 0
        """Length of the planned run."""
        self.batch = Batch((), 0, 0, 0)
        """Of the planned or begun step."""
        self.put_off: list[Happening] = []
        """Who was preempted or rejected when the step began."""
        self._pieces: list[tuple[Sequence, int]] = []
        """Prefill pieces of the planned or begun step."""
        self._partial: Sequence | None = None
        """The running sequence whose prompt is not computed to its end: always the last admitted."""
        self._irregular = False
        """There are several, or another one: only the reference goes on from here."""
        self._outputs: dict[int, Sequence] = {}
        """Decoding sequences by the segment that they generate: their new blocks enter the cache late."""
        self._admitted = 0
        self._settled = -1
        self._any_order = limits.policy != "fcfs" or limits.long_prefill_token_threshold > 0

    # --- plan: nothing that could be seen changes ----------------------------------------------------------------

    def plan(self) -> Kind:
        """What comes next if nobody interferes; there must be a running or a waiting sequence."""
        if self._irregular:
            return Kind.REFERENCE
        if self._partial is not None or self.scheduler.waiting:
            kind = self._plan_step()
            if kind is not Kind.UNKNOWN:
                return kind
        decodes = self.decodes
        if decodes.size == 0:
            return Kind.REFERENCE
        self.iterations = decodes.iterations_within(
            self.pool.total + self.pool.shared, decodes.first_leave() - decodes.clock
        )
        return Kind.RUN if self.iterations else Kind.REFERENCE

    def _plan_step(self) -> Kind:
        """UNKNOWN: nobody can be admitted."""
        limits, decodes, partial = self.limits, self.decodes, self._partial
        budget = limits.max_num_batched_tokens - decodes.size
        slots = limits.max_num_seqs - len(self.scheduler.running)
        if partial is None and (slots <= 0 or budget <= 0):
            return Kind.UNKNOWN
        # Free blocks once the decodes have grown: at first a bound that is cheap.
        free = self.pool.total + self.pool.shared - decodes.blocks_at_most(1) - (partial.blocks if partial else 0)
        exact = False
        if free < 0:
            free, exact = self._free(0), True
        watermark = limits.watermark_blocks
        pieces: list[tuple[Sequence, int]] = []
        grown = 0
        if partial is not None:
            tokens = min(partial.length - partial.computed, budget)
            grown = limits.blocks_of(partial.computed + tokens) - partial.blocks
            if grown > free and not exact:
                free, exact = self._free(0), True
            if self._any_order or tokens <= 0 or grown > free:
                return Kind.REFERENCE
            free -= grown
            budget -= tokens
            pieces.append((partial, tokens))
        if free < 0:
            return Kind.REFERENCE
        for sequence in self.scheduler.waiting:
            if slots <= 0 or budget <= 0:
                break
            if self._any_order or sequence.names is not None or sequence.run is not None or sequence.kv_tokens:
                if not pieces and self._head_blocked(sequence):
                    return Kind.UNKNOWN
                return Kind.REFERENCE if self._any_order else Kind.SHARED
            need = limits.blocks_of(sequence.length)
            if watermark and (pieces or self.scheduler.running):
                need += watermark
            if need > free and not exact:
                free, exact = self._free(grown), True
            if need > free:
                break
            tokens = min(sequence.length, budget)
            grown += limits.blocks_of(tokens)
            free -= limits.blocks_of(tokens)
            budget -= tokens
            slots -= 1
            pieces.append((sequence, tokens))
        if not pieces:
            return Kind.UNKNOWN
        self._pieces = pieces
        self.batch = self._mixed_batch(pieces, 0)
        return Kind.PLAIN

    def _free(self, planned: int) -> int:
        """Blocks that are free once the decodes have grown by one iteration, and ``planned`` are taken."""
        partial = self._partial
        held = self.decodes.blocks(1) + (partial.blocks if partial is not None else 0)
        return self.pool.total + self.pool.shared - held - planned

    def _head_blocked(self, sequence: Sequence) -> bool:
        """Too few blocks are free for the head of the queue (cached blocks that nobody holds do not help it)."""
        if self._outputs and any(segment in self._outputs for segment, _ in sequence.job.request.content):
            # Its prompt may hit what is being generated just now: only the step itself can tell.
            return False
        self.settle()
        held = sum(block.refs > 0 for block in self.pool.match(sequence))
        watermark = self.limits.watermark_blocks if self.scheduler.running else 0
        return self.limits.blocks_of(sequence.length) - held + watermark > self._free(0)

    def _mixed_batch(self, pieces: list[tuple[Sequence, int]], advanced: int) -> Batch:
        """The decodes and the pieces; ``advanced``: whether the pieces' tokens are counted as computed already."""
        decodes = self.decodes
        count, context_tokens, longest = decodes.size, decodes.context_tokens, decodes.max_context_tokens()
        chunks: list[Chunk] = []
        for sequence, tokens in pieces:
            context = sequence.computed - tokens * advanced
            if tokens == 1:
                count += 1
                context_tokens += context
                if decodes.needs_max_context and context > longest:
                    longest = context
            else:
                chunks.append(Chunk(tokens, context))
        return Batch(tuple(chunks), count, context_tokens, longest)

    # --- begin ---------------------------------------------------------------------------------------------------

    def begin_plain(self) -> None:
        """Begin the planned step."""
        pool, running, waiting = self.pool, self.scheduler.running, self.scheduler.waiting
        size = self.limits.block_size
        if pool.idle:
            self._grow_decodes()
        for sequence, tokens in self._pieces:
            if sequence is self._partial:
                self._grow_partial(sequence, tokens)
            else:
                waiting.popleft()
                self._number(sequence)
                running[sequence] = None
                sequence.blocks = blocks = -(-tokens // size)
                pool.take(blocks)
                sequence.computed = tokens

    def begin_shared(self) -> None:
        """Form and begin a step with the reference's own admission."""
        self._grow_decodes()
        step = Step()
        partial = self._partial
        budget = self.limits.max_num_batched_tokens - self.decodes.size
        if partial is not None:
            tokens = min(partial.length - partial.computed, budget)
            self._grow_partial(partial, tokens)
            step.scheduled[partial] = tokens
            budget -= tokens
        self.scheduler.schedule_waiting(step, budget, 0)
        for sequence in step.scheduled:
            if sequence is not partial:
                self._number(sequence)
        self._pieces = list(step.scheduled.items())
        self.batch = self._mixed_batch(self._pieces, 1)

    def begin_reference(self) -> bool:
        """Form and begin a step of the reference scheduler; False where it only put sequences off."""
        self._materialise()
        step = self.scheduler.schedule()
        self.put_off = [(EventKind.PREEMPTED, sequence) for sequence in step.preempted]
        self.put_off += [(EventKind.REJECTED, sequence) for sequence in step.rejected]
        self._pieces = list(step.scheduled.items())
        if not step.scheduled:
            self._adopt()
            return False
        self.batch = step.batch(self.decodes.needs_max_context)
        return True

    def in_flight(self, sequence: Sequence) -> int:
        """Tokens of a sequence that the begun step computes (decodes apart)."""
        return next((tokens for piece, tokens in self._pieces if piece is sequence), 0)

    # --- end -----------------------------------------------------------------------------------------------------

    def end_run(self, iterations: int) -> list[Happening]:
        """So many iterations of the run are over."""
        self.decodes.run(iterations)
        return self._leave()

    def end_step(self) -> list[Happening]:
        """The step that was planned as PLAIN or SHARED is over."""
        self.decodes.run(1)
        happened = self._leave()
        self._partial = None
        for sequence, _ in self._pieces:
            if sequence.computed < sequence.prompt + sequence.generated:
                self._partial = sequence
                continue
            self._token(sequence, happened)
            if sequence.generated == sequence.stop and not sequence.aborted:
                self.scheduler.finish(sequence)
            else:
                self._join(sequence)
        self._pieces = []
        return happened

    def end_reference(self) -> list[Happening]:
        """The reference's step is over."""
        happened: list[Happening] = []
        for sequence, _ in self._pieces:
            if sequence.computed == sequence.length:
                self._token(sequence, happened)
                if sequence.generated == sequence.stop and not sequence.aborted:
                    self.scheduler.finish(sequence)
        self._pieces = []
        self._adopt()
        return happened

    def remove(self, sequence: Sequence) -> None:
        """Take a running sequence out at a boundary (it was aborted)."""
        if sequence.leaves:
            self._take_out(sequence)
        else:
            self.scheduler.finish(sequence)
            if sequence is self._partial:
                self._partial = None

    def used_blocks(self, iterations: int) -> int:
        """Blocks that sequences hold once the decodes have grown by so many iterations."""
        decodes, pool = self.decodes, self.pool
        return pool.total - pool.free + decodes.blocks(iterations) - decodes.held

    # --- between the sums and the sequences ----------------------------------------------------------------------

    def settle(self) -> None:
        """Book the blocks that the decodes have taken since they were last settled."""
        decodes = self.decodes
        if self._settled == decodes.clock:
            return
        self._settled = decodes.clock
        debt = decodes.blocks() - decodes.held
        if debt:
            self.pool.take(debt)
            decodes.held += debt

    def _grow_decodes(self) -> None:
        """Book the blocks of the coming iteration, before those of anybody who is admitted in it."""
        self.settle()
        growth = self.decodes.growth()
        self.pool.take(growth)
        self.decodes.held += growth

    def _grow_partial(self, partial: Sequence, tokens: int) -> None:
        if partial.names is not None and self._outputs:
            # Of two blocks with one name the older is hit first: what it quotes comes before it.
            self._name_outputs(partial)
        self.pool.grow(partial, partial.computed + tokens)
        partial.computed += tokens

    def _leave(self) -> list[Happening]:
        happened: list[Happening] = []
        for sequence in self.decodes.leaving():
            if not sequence.aborted:
                self._take_out(sequence)
                if sequence.generated == 1:
                    happened.append((EventKind.FIRST_TOKEN, sequence))
                happened.append((EventKind.FINISHED, sequence))
        return happened

    def _take_out(self, sequence: Sequence) -> None:
        pool = self.pool
        if pool.idle:
            self.settle()
        self.decodes.leave(sequence)
        if sequence.names is not None:
            pool.name(sequence, sequence.computed)
            self._outputs.pop(sequence.job.output_segment, None)
        del self.scheduler.running[sequence]
        pool.release(sequence)

    def _token(self, sequence: Sequence, happened: list[Happening]) -> None:
        sequence.generated += 1
        if not sequence.aborted:
            if sequence.generated == 1:
                happened.append((EventKind.FIRST_TOKEN, sequence))
            if sequence.generated == sequence.stop:
                happened.append((EventKind.FINISHED, sequence))

    def _join(self, sequence: Sequence) -> None:
        self.decodes.join(sequence)
        if sequence.names is not None and sequence.job.output_segment >= 0:
            self._outputs[sequence.job.output_segment] = sequence

    def _number(self, sequence: Sequence) -> None:
        self._admitted += 1
        sequence.number = self._admitted

    def _materialise(self) -> None:
        """Bring every decoding sequence's counts up to date, and empty the decode set."""
        self.settle()
        decodes, pool = self.decodes, self.pool
        for sequence in self.scheduler.running:
            if sequence.leaves:
                decodes.leave(sequence)
                pool.name(sequence, sequence.computed)
        decodes.clear()
        self._outputs.clear()
        self._partial = None

    def _adopt(self) -> None:
        """Go on from the reference's state with sums, unless several prompts are under way."""
        running = self.scheduler.running
        last = next(reversed(running)) if running else None
        prefilling = [sequence for sequence in running if not _decodes(sequence)]
        self._irregular = bool(prefilling) and prefilling != [last]
        if self._irregular:
            return
        for sequence in running:
            self._number(sequence)
            if sequence is last and prefilling:
                self._partial = sequence
            else:
                self._join(sequence)

    def _name_outputs(self, sequence: Sequence) -> None:
        """Before a prompt is looked up: name what was generated of the segments that it quotes."""
        for segment, _ in sequence.job.request.content:
            quoted = self._outputs.get(segment)
            if quoted is not None:
                # The coming iteration's token included, as the reference names it when it is scheduled.
                self.pool.name(quoted, quoted.prompt + quoted.base + self.decodes.clock)


def _decodes(sequence: Sequence) -> bool:
    """It has its first token and lacks the KV of its last one only."""
    return sequence.generated > 0 and sequence.prompt + sequence.generated - sequence.computed == 1
