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

_FIRST_TOKEN, _FINISHED, _PREEMPTED, _REJECTED = EventKind

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


# Members of an enum are looked up slowly; these are compared several times per event.
_UNKNOWN, _RUN, _PLAIN, _SHARED, _REFERENCE = Kind


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
        self._needs_max_context = needs_max_context
        self._block_size = limits.block_size
        self._max_tokens = limits.max_num_batched_tokens
        self._max_seqs = limits.max_num_seqs
        self._watermark = limits.watermark_blocks
        self._any_order = limits.policy != "fcfs" or limits.long_prefill_token_threshold > 0

    # --- plan: nothing that could be seen changes ----------------------------------------------------------------

    def plan(self) -> Kind:
        """What comes next if nobody interferes; there must be a running or a waiting sequence."""
        if self._irregular:
            return _REFERENCE
        if self._partial is not None or self.scheduler.waiting:
            kind = self._plan_step()
            if kind is not _UNKNOWN:
                return kind
        decodes = self.decodes
        if decodes.size == 0:
            return _REFERENCE
        self.iterations = iterations = decodes.iterations_to_change(self.pool.total + self.pool.shared)
        return _RUN if iterations else _REFERENCE

    def _plan_step(self) -> Kind:
        """UNKNOWN: nobody can be admitted."""
        decodes, partial, running = self.decodes, self._partial, self.scheduler.running
        size, watermark = self._block_size, self._watermark
        budget = self._max_tokens - decodes.size
        slots = self._max_seqs - len(running)
        if partial is None and (slots <= 0 or budget <= 0):
            return _UNKNOWN
        # Free blocks once the decodes have grown: at first a bound that is cheap.
        free = self.pool.total + self.pool.shared - decodes.blocks_at_most(1) - (partial.blocks if partial else 0)
        exact = False
        if free < 0:
            free, exact = self._free(0), True
        pieces: list[tuple[Sequence, int]] = []
        grown = 0
        if partial is not None:
            tokens = min(partial.length - partial.computed, budget)
            grown = -(-(partial.computed + tokens) // size) - partial.blocks
            if grown > free and not exact:
                free, exact = self._free(0), True
            if self._any_order or tokens <= 0 or grown > free:
                return _REFERENCE
            free -= grown
            budget -= tokens
            pieces.append((partial, tokens))
        if free < 0:
            return _REFERENCE
        for sequence in self.scheduler.waiting:
            if slots <= 0 or budget <= 0:
                break
            if self._any_order or sequence.names is not None or sequence.run is not None or sequence.kv_tokens:
                if not pieces and self._head_blocked(sequence):
                    return _UNKNOWN
                return _REFERENCE if self._any_order else _SHARED
            tokens = sequence.prompt + sequence.generated
            need = -(-tokens // size)
            if watermark and (pieces or running):
                need += watermark
            if need > free and not exact:
                free, exact = self._free(grown), True
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
        self._pieces = pieces
        first = pieces[0][1]
        if partial is None and len(pieces) == 1 and first > 1:
            # By far the most frequent step: one prompt, whole.
            longest = decodes.max_context_tokens() if self._needs_max_context else 0
            self.batch = Batch((Chunk(first, 0),), decodes.size, decodes.context_tokens, longest)
        else:
            self.batch = self._mixed_batch(pieces, 0)
        return _PLAIN

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
        need = self.limits.blocks_of(sequence.length) + (self._watermark if self.scheduler.running else 0)
        free = self._free(0)
        if need <= free:
            return False
        self.settle()
        return need - self.pool.held_among(self.pool.match(sequence)) > free

    def _mixed_batch(self, pieces: list[tuple[Sequence, int]], advanced: int) -> Batch:
        """The decodes and the pieces; ``advanced``: whether the pieces' tokens are counted as computed already."""
        decodes = self.decodes
        count, context_tokens = decodes.size, decodes.context_tokens
        longest = decodes.max_context_tokens() if self._needs_max_context else 0
        chunks: list[Chunk] = []
        for sequence, tokens in pieces:
            context = sequence.computed - tokens * advanced
            if tokens > 1:
                chunks.append(Chunk(tokens, context))
            else:
                count += 1
                context_tokens += context
                if self._needs_max_context and context > longest:
                    longest = context
        return Batch(tuple(chunks), count, context_tokens, longest)

    # --- begin ---------------------------------------------------------------------------------------------------

    def begin_plain(self) -> None:
        """Begin the planned step."""
        pool, running, waiting = self.pool, self.scheduler.running, self.scheduler.waiting
        size = self._block_size
        if pool.idle:
            self._grow_decodes()
        for sequence, tokens in self._pieces:
            if sequence is self._partial:
                self._grow_partial(sequence, tokens)
            else:
                waiting.popleft()
                self._admitted = sequence.number = self._admitted + 1
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
        self.put_off = [(_PREEMPTED, sequence) for sequence in step.preempted]
        self.put_off += [(_REJECTED, sequence) for sequence in step.rejected]
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
        decodes = self.decodes
        decodes.run(1)
        happened = self._leave() if decodes.anybody_due() else []
        self._partial = None
        for sequence, _ in self._pieces:
            if sequence.computed < sequence.prompt + sequence.generated:
                self._partial = sequence
            elif not self._token(sequence, happened):
                decodes.join(sequence)
                if sequence.names is not None:
                    self._watch_output(sequence)
        self._pieces = []
        return happened

    def end_reference(self) -> list[Happening]:
        """The reference's step is over."""
        happened: list[Happening] = []
        for sequence, _ in self._pieces:
            if sequence.computed == sequence.length:
                self._token(sequence, happened)
        self._pieces = []
        self._adopt()
        return happened

    def remove(self, sequence: Sequence) -> None:
        """Take a running sequence out at a boundary (it was aborted)."""
        if sequence.leaves:
            if self.pool.idle:
                self.settle()
            self.decodes.leave(sequence)
            self._give_back(sequence)
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
        if self.pool.idle:
            self.settle()
        happened: list[Happening] = []
        for sequence in self.decodes.leave_due():
            self._give_back(sequence)
            happened.append((_FINISHED, sequence))
        return happened

    def _give_back(self, sequence: Sequence) -> None:
        """The blocks of a sequence that was taken out of the decode set."""
        if sequence.names is not None:
            self.pool.name(sequence, sequence.computed)
            self._outputs.pop(sequence.job.output_segment, None)
        del self.scheduler.running[sequence]
        self.pool.release(sequence)

    def _token(self, sequence: Sequence, happened: list[Happening]) -> bool:
        """A sequence outside the decode set has a new token; whether it was the last."""
        sequence.generated = generated = sequence.generated + 1
        if sequence.aborted:
            return False
        if generated == 1:
            happened.append((_FIRST_TOKEN, sequence))
        if generated < sequence.stop:
            return False
        happened.append((_FINISHED, sequence))
        self.scheduler.finish(sequence)
        return True

    def _watch_output(self, sequence: Sequence) -> None:
        if sequence.job.output_segment >= 0:
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
                self.decodes.join(sequence)
                if sequence.names is not None:
                    self._watch_output(sequence)

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
