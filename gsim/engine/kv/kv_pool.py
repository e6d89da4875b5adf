"""The KV blocks of one engine: who holds how many, and in which order cached ones are taken.

vLLM keeps free blocks in one queue: blocks without a hash return to its front, blocks with one to its end, a
sequence's tail before its head, and blocks are taken from the front. So the queue is always *blank blocks, then cached
blocks in LRU order*, and blank blocks need no identity: they are a number. (Source: vLLM 0.32, ``block_pool.py``.)

A sequence that shares nothing with anybody has no named blocks. Only itself can hit them, after a preemption; so they
lie in the LRU order as one entry of so many blocks. An entry that nobody can hit any more is merely older or younger
than what can be hit: where nothing that can be hit is older, it counts as blank.

How named blocks are kept is the matter of two kinds of pool: ``block_pool`` has every block as an object of its own
(to be read beside vLLM's), ``run_pool`` has them by runs (fast); both give the same answers, to the block.
"""

from __future__ import annotations

from gsim.core.lru import Entry, Lru
from gsim.core.request import Content
from gsim.engine.kv.host_tier import HostTier
from gsim.engine.sequence import Hold, OwnBlocks, Sequence


class Match:
    """Cached blocks that begin a prompt."""

    __slots__ = ("blocks", "host_blocks")

    def __init__(self) -> None:
        self.blocks = 0
        """How many."""
        self.host_blocks = 0
        """How many that follow them are in host memory."""


class KvPool:
    """Free, cached and held blocks. Cached blocks that nobody holds count as free."""

    def __init__(self, blocks: int, block_size: int, caching: bool, host: HostTier | None = None) -> None:
        self.total = blocks
        self.free = blocks
        self.block_size = block_size
        self.caching = caching
        self.shared = 0
        """Blocks that sequences count as theirs beyond the first holder of each."""
        self.idle = Lru()
        """Cached blocks that nobody holds."""
        self._blank = blocks
        self.host = host
        """Where named blocks fall when they are evicted; with it all sequences have names."""

    @property
    def has_idle(self) -> bool:
        """Whether some cached blocks are held by nobody."""
        return self.free != self._blank

    # --- what the two kinds of pool differ in ---------------------------------------------------------------------

    def hold_of(self, pieces: Content, first_generated: int) -> Hold:
        """The hold of a new sequence on its named blocks, of which there are none yet (arguments: see ``Hold``)."""
        raise NotImplementedError

    def match(self, sequence: Sequence) -> Match:
        """The cached blocks that begin ``sequence``, without its last token (which must be computed)."""
        raise NotImplementedError

    def held_among(self, match: Match) -> int:
        """How many of some cached blocks are held, and so need no free one."""
        raise NotImplementedError

    def name(self, sequence: Sequence, tokens: int) -> None:
        """Enter the full blocks among the first ``tokens`` tokens of a sequence that has names into the cache."""
        raise NotImplementedError

    def _hold(self, sequence: Sequence, match: Match) -> None:
        """Let ``sequence`` hold cached blocks."""
        raise NotImplementedError

    def _let_go(self, hold: Hold) -> int:
        """Let a sequence's named blocks go, the last one first; how many it held."""
        raise NotImplementedError

    def _bring_back(self, sequence: Sequence, match: Match) -> None:
        """Copy the blocks of ``match`` that are in host memory, and count that the sequence was looked up."""
        raise NotImplementedError

    def _forget(self, entry: Entry, evicted: int) -> None:
        """So many blocks at the end of a named entry have been evicted, maybe all."""
        raise NotImplementedError

    # --- what they have in common ---------------------------------------------------------------------------------

    def admit(self, sequence: Sequence, match: Match, tokens: int) -> None:
        """Give ``sequence`` the cached blocks of ``match`` (or its own), and fresh ones up to ``tokens`` tokens.

        Some of the fresh ones are for what comes out of host memory.
        """
        sequence.blocks = match.blocks
        if self.host is not None:
            self._bring_back(sequence, match)
        if match.blocks:
            self._hold(sequence, match)
        elif sequence.own is not None:
            sequence.blocks = self._take_own(sequence.own, sequence.length)
            sequence.own = None
        self.grow(sequence, tokens)

    def own_hit(self, sequence: Sequence) -> int:
        """Blocks of its own that a nameless, preempted sequence finds again."""
        if sequence.own is None:
            return 0
        return min(sequence.own.blocks, (sequence.length - 1) // self.block_size)

    def _take_own(self, own: OwnBlocks, length: int) -> int:
        blocks = min(own.blocks, (length - 1) // self.block_size)
        own.blocks -= blocks
        own.hittable = False
        self.free -= blocks
        if own.blocks == 0 and blocks:
            self.idle.remove(own)
        self._forget_front()
        return blocks

    def blocks_short(self, sequence: Sequence, tokens: int) -> bool:
        """Too few blocks are free to let ``sequence`` grow to ``tokens`` tokens."""
        return -(-tokens // self.block_size) - sequence.blocks > self.free

    def grow(self, sequence: Sequence, tokens: int) -> None:
        """Give ``sequence`` blocks for ``tokens`` tokens, and name those that are full of tokens that are known.

        Tokens that are only proposed (speculative decoding) take blocks, but may yet be rejected: they name none.
        """
        need = -(-tokens // self.block_size) - sequence.blocks
        if need > 0:
            self.take(need)
            sequence.blocks += need
        if sequence.hold is not None:
            self.name(sequence, min(tokens, sequence.length))

    def take(self, blocks: int) -> None:
        """Take ``blocks`` blank or least recently used blocks (the caller knows that so many are free)."""
        self.free -= blocks
        if blocks <= self._blank:
            self._blank -= blocks
            return
        blocks -= self._blank
        self._blank = 0
        idle = self.idle
        while blocks > 0:
            entry = idle.oldest
            assert entry is not None
            evicted = min(blocks, entry.blocks)
            blocks -= evicted
            entry.blocks -= evicted
            if entry.blocks == 0:
                idle.remove(entry)
            if type(entry) is not OwnBlocks:
                self._forget(entry, evicted)
        self._forget_front()

    def release(self, sequence: Sequence, keep_own: bool = False) -> None:
        """Take all blocks of ``sequence`` back; ``keep_own``: it is preempted and may hit them again."""
        hold = sequence.hold
        blank = sequence.blocks
        if hold is not None:
            blank -= self._let_go(hold)
        else:
            full = min(sequence.computed, sequence.length) // self.block_size if self.caching else 0
            if full and (keep_own or self.has_idle):
                blank -= full
                own = OwnBlocks(full, keep_own)
                self.idle.push(own)
                self.free += full
                if keep_own:
                    sequence.own = own
        self.free += blank
        self._blank += blank
        sequence.blocks = 0

    def disown(self, sequence: Sequence) -> None:
        """A preempted sequence will never come back: what is cached of it can no longer be hit."""
        if sequence.own is not None:
            sequence.own.hittable = False
            sequence.own = None
            self._forget_front()

    def _forget_front(self) -> None:
        """Count entries that nobody can hit and that are the oldest as blank: they are taken first either way."""
        idle = self.idle
        while True:
            entry = idle.oldest
            if type(entry) is not OwnBlocks or entry.hittable:
                return
            idle.remove(entry)
            self._blank += entry.blocks
