"""The decoding sequences of an engine, as sums: nothing here costs time per sequence and iteration.

In every iteration each of them computes one token. So one clock counts iterations; a sequence that joins at count k
with n tokens to go leaves at k + n (a heap), the sum of the contexts grows by their number, and a sequence needs a new
block whenever its context, taken modulo the block size, comes round to 0: the contexts' residues relative to the clock
never change, and a counter per residue says how many blocks are held at any count.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

from gsim.engine.sequence import Sequence

# A leaver is one whole number, the clock at which it leaves above the number of its slot: the heap compares numbers at
# a third of what pairs cost.
_SLOT_BITS: Final = 24
_SLOT: Final = (1 << _SLOT_BITS) - 1


class DecodeSet:
    """Sequences that compute one token per iteration, with their clock."""

    __slots__ = (
        "_counted_at",
        "_counted_blocks",
        "_leavers",
        "_longest",
        "_residues",
        "_slots",
        "_vacant",
        "block_size",
        "changed",
        "clock",
        "context_tokens",
        "held",
        "needs_max_context",
        "size",
    )

    def __init__(self, block_size: int, needs_max_context: bool) -> None:
        self.block_size = block_size
        self.needs_max_context = needs_max_context
        self.clock = 0
        self.changed: list[Sequence] | None = None
        """Whose count of tokens follows another rule than before, for an observer; None: nobody has asked."""
        self.clear()

    def clear(self) -> None:
        """Let all go (whoever calls has taken their counts); the clock goes on."""
        self.size = 0
        self.context_tokens = 0
        """Tokens whose KV exists, over all of them."""
        self.held = 0
        """Blocks that the pool has booked for them; what they hold in truth is ``blocks()``."""
        self._residues = [0] * self.block_size
        # Blocks that they hold at some clock, now or before; of who has joined since, as if it had decoded since then.
        self._counted_at = self.clock
        self._counted_blocks = 0
        self._leavers: list[int] = []
        self._slots: list[Sequence | None] = []
        self._vacant: list[int] = []
        self._longest: list[tuple[int, int, Sequence]] | None = [] if self.needs_max_context else None

    def join(self, sequence: Sequence) -> None:
        """``sequence`` has all its KV but its last token's, and decodes from now on."""
        clock = self.clock
        computed = sequence.computed
        sequence.base = sequence.generated - clock
        sequence.leaves = leaves = clock + sequence.stop - sequence.generated
        if self._vacant:
            slot = self._vacant.pop()
            self._slots[slot] = sequence
        else:
            slot = len(self._slots)
            self._slots.append(sequence)
        sequence.slot = slot
        heappush(self._leavers, leaves << _SLOT_BITS | slot)
        self.size += 1
        self.context_tokens += computed
        self.held += sequence.blocks
        self._count(computed, 1)
        if self._longest is not None:
            heappush(self._longest, (clock - computed, sequence.number, sequence))
        self.tell(sequence)

    def tell(self, sequence: Sequence) -> None:
        """Let an observer know that the count of a sequence follows another rule now."""
        if self.changed is not None:
            self.changed.append(sequence)

    def leave(self, sequence: Sequence) -> None:
        """Take one out, with its tokens and blocks as they are now."""
        clock = self.clock
        size = self.block_size
        sequence.generated = generated = sequence.base + clock
        sequence.computed = computed = sequence.prompt + generated - 1
        sequence.blocks = blocks = -(-computed // size)
        sequence.leaves = 0
        self._slots[sequence.slot] = None
        self._vacant.append(sequence.slot)
        self.size -= 1
        self.context_tokens -= computed
        self.held -= blocks
        self._count(computed, -1)

    def _count(self, computed: int, sequences: int) -> None:
        """One more, or one less, that has so many tokens now."""
        size = self.block_size
        self._residues[(computed - self.clock) % size] += sequences
        self._counted_blocks += sequences * -((self.clock - self._counted_at - computed) // size)

    def run(self, iterations: int) -> None:
        """So many iterations are over."""
        self.clock += iterations
        self.context_tokens += iterations * self.size

    def iterations_to_change(self, blocks: int) -> int:
        """How many iterations until the first one leaves, or until they need more than ``blocks`` blocks."""
        leavers = self._leavers
        # Who left before its time is still in the heap.
        while self._leaver(leavers[0]) is None:
            heappop(leavers)
        iterations = (leavers[0] >> _SLOT_BITS) - self.clock
        size = self.block_size
        # An upper bound first, which is cheap.
        if self.context_tokens + (iterations + size - 1) * self.size > blocks * size:
            return self.iterations_within(blocks, iterations)
        return iterations

    def leave_due(self) -> list[Sequence]:
        """Take out who has generated all its tokens, in the order of admission (not the aborted)."""
        leavers = self._leavers
        clock = self.clock
        gone: list[Sequence] = []
        while leavers and leavers[0] >> _SLOT_BITS <= clock:
            sequence = self._leaver(heappop(leavers))
            if sequence is not None and not sequence.aborted:
                self.leave(sequence)
                gone.append(sequence)
        if len(gone) > 1:
            gone.sort(key=_number)
        return gone

    def _leaver(self, key: int) -> Sequence | None:
        """Whom an entry of the heap stands for; None if it has left already."""
        sequence = self._slots[key & _SLOT]
        return sequence if sequence is not None and sequence.leaves == key >> _SLOT_BITS else None

    def anybody_due(self) -> bool:
        """Whether ``leave_due`` may find somebody."""
        leavers = self._leavers
        return bool(leavers) and leavers[0] >> _SLOT_BITS <= self.clock

    def max_context_tokens(self) -> int:
        """The longest context (0 where the latency model does not ask for it)."""
        longest = self._longest
        if not longest or self.size == 0:
            return 0
        while longest[0][2].leaves == 0 or longest[0][0] != 1 - longest[0][2].prompt - longest[0][2].base:
            heappop(longest)
        return self.clock - longest[0][0]

    def blocks(self, iterations: int = 0) -> int:
        """Blocks that they hold after so many iterations more (a shared block counts for each of them)."""
        clock = self.clock
        self._counted_blocks += self._growth(self._counted_at, clock - self._counted_at)
        self._counted_at = clock
        return self._counted_blocks + self._growth(clock, iterations) if iterations else self._counted_blocks

    def _growth(self, clock: int, iterations: int) -> int:
        """Blocks that so many iterations add, the first of them at ``clock``."""
        size, residues = self.block_size, self._residues
        blocks = iterations // size * self.size
        # The iteration at count k adds one for whoever has residue -k.
        residue = -clock % size
        for _ in range(iterations % size):
            blocks += residues[residue]
            residue -= 1
            if residue < 0:
                residue = size - 1
        return blocks

    def blocks_at_most(self, iterations: int = 0) -> int:
        """An upper bound of ``blocks``, at once."""
        size = self.size
        return (self.context_tokens + (iterations + self.block_size - 1) * size) // self.block_size

    def growth(self) -> int:
        """Blocks that the next iteration adds."""
        return self._residues[-self.clock % self.block_size]

    def iterations_within(self, blocks: int, at_most: int) -> int:
        """The largest number of iterations, up to ``at_most``, after which they hold no more than ``blocks``."""
        if self.blocks(at_most) <= blocks:
            return at_most
        low, high = 0, at_most
        while high - low > 1:
            middle = (low + high) // 2
            if self.blocks(middle) <= blocks:
                low = middle
            else:
                high = middle
        return low


def _number(sequence: Sequence) -> int:
    return sequence.number
