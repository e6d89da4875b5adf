"""The KV blocks of one engine: who holds how many, and what the prefix cache still knows.

vLLM keeps free blocks in one queue: blocks without a hash return to its front, blocks with one to its end, a
sequence's tail before its head, and blocks are taken from the front. So the queue is always *blank blocks, then cached
blocks in LRU order*, and blank blocks need no identity: they are a number. (Source: vLLM 0.32, ``block_pool.py``.)

A sequence that shares nothing with anybody has no named blocks. Only itself can hit them, after a preemption; so they
need no identity either, and lie in the LRU order as a run of so many blocks. A run that nobody can hit any more is
merely older or younger than what can be hit: where nothing that can be hit is older, it counts as blank.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from gsim.engine.sequence import Sequence


class Block:
    """A named, full KV block: hashed content that other prompts may share."""

    __slots__ = ("name", "refs")

    def __init__(self, name: int) -> None:
        self.name = name
        self.refs = 1


class Run:
    """The first ``blocks`` blocks of a nameless sequence, cached and unreferenced; evicted from its end."""

    __slots__ = ("blocks", "owned")

    def __init__(self, blocks: int, owned: bool) -> None:
        self.blocks = blocks
        self.owned = owned
        """A preempted sequence waits that can still hit it."""


class KvPool:
    """Free, cached and held blocks. Cached blocks that nobody holds count as free."""

    def __init__(self, blocks: int, block_size: int, caching: bool) -> None:
        self.total = blocks
        self.free = blocks
        self.block_size = block_size
        self.caching = caching
        self.shared = 0
        """Blocks that sequences count as theirs beyond the first holder of each."""
        self.before_match: Callable[[Sequence], None] | None = None
        """Called with a sequence that has names before its blocks are looked up."""
        self.idle: OrderedDict[Block | Run, None] = OrderedDict()
        """Cached blocks that nobody holds, least recently used first."""
        self._blank = blocks
        self._cached: dict[int, list[Block]] = {}

    @property
    def has_idle(self) -> bool:
        """Whether some cached blocks are held by nobody."""
        return self.free != self._blank

    def match(self, sequence: Sequence) -> list[Block]:
        """The longest run of cached blocks that begin ``sequence``, without its last token (which must be computed)."""
        hits: list[Block] = []
        if not self.caching or sequence.names is None:
            return hits
        if self.before_match is not None:
            self.before_match(sequence)
        most = (sequence.length - 1) // self.block_size
        cached = self._cached
        for name in sequence.names.first(most)[:most]:
            found = cached.get(name)
            if found is None:
                break
            hits.append(found[0])
        return hits

    def held_among(self, blocks: list[Block]) -> int:
        """How many of some cached blocks are held, and so need no free one."""
        return sum(block.refs > 0 for block in blocks)

    def admit(self, sequence: Sequence, hits: list[Block], tokens: int) -> None:
        """Give ``sequence`` its cached blocks ``hits`` (or its own run), and fresh ones up to ``tokens`` tokens."""
        for block in hits:
            if block.refs == 0:
                del self.idle[block]
                self.free -= 1
            else:
                self.shared += 1
            block.refs += 1
        sequence.cached = hits
        sequence.blocks = len(hits)
        if sequence.run is not None:
            sequence.blocks = self._take_run(sequence.run, sequence.length)
            sequence.run = None
        self.grow(sequence, tokens)

    def run_hit(self, sequence: Sequence) -> int:
        """Blocks of its own that a nameless, preempted sequence finds again."""
        if sequence.run is None:
            return 0
        return min(sequence.run.blocks, (sequence.length - 1) // self.block_size)

    def _take_run(self, run: Run, length: int) -> int:
        blocks = min(run.blocks, (length - 1) // self.block_size)
        run.blocks -= blocks
        run.owned = False
        self.free -= blocks
        if run.blocks == 0:
            self.idle.pop(run, None)
        self._forget_front()
        return blocks

    def blocks_short(self, sequence: Sequence, tokens: int) -> bool:
        """Too few blocks are free to let ``sequence`` grow to ``tokens`` tokens."""
        return -(-tokens // self.block_size) - sequence.blocks > self.free

    def grow(self, sequence: Sequence, tokens: int) -> None:
        """Give ``sequence`` blocks for ``tokens`` tokens, and name those that are full."""
        need = -(-tokens // self.block_size) - sequence.blocks
        if need > 0:
            self.take(need)
            sequence.blocks += need
        if sequence.names is not None:
            self.name(sequence, tokens)

    def name(self, sequence: Sequence, tokens: int) -> None:
        """Enter the full blocks among the first ``tokens`` tokens of a sequence that has names into the cache."""
        names = sequence.names
        if names is None or not self.caching:
            return
        full = tokens // self.block_size
        mine = sequence.cached
        if len(mine) < full:
            for name in names.first(full)[len(mine) : full]:
                block = Block(name)
                # Two sequences that compute the same content at the same time hold two blocks of one name.
                self._cached.setdefault(name, []).append(block)
                mine.append(block)

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
            entry = next(iter(idle))
            if type(entry) is Run:
                evicted = min(blocks, entry.blocks)
                entry.blocks -= evicted
                blocks -= evicted
                if entry.blocks == 0:
                    del idle[entry]
            else:
                assert type(entry) is Block
                del idle[entry]
                self._forget(entry)
                blocks -= 1
        self._forget_front()

    def release(self, sequence: Sequence, keep_run: bool = False) -> None:
        """Take all blocks of ``sequence`` back; ``keep_run``: it is preempted and may hit them again."""
        full = sequence.computed // self.block_size if self.caching else 0
        idle = self.idle
        if sequence.names is not None and self.caching:
            mine = sequence.cached
            blank = sequence.blocks - len(mine)
            for block in reversed(mine):
                block.refs -= 1
                if block.refs == 0:
                    idle[block] = None
                    self.free += 1
                else:
                    self.shared -= 1
        elif full and (self.has_idle or keep_run):
            blank = sequence.blocks - full
            run = Run(full, keep_run)
            idle[run] = None
            self.free += full
            if keep_run:
                sequence.run = run
        else:
            blank = sequence.blocks
        self.free += blank
        self._blank += blank
        sequence.blocks = 0
        if sequence.names is not None:
            sequence.cached = []

    def disown(self, sequence: Sequence) -> None:
        """A preempted sequence will never come back: what is cached of it can no longer be hit."""
        if sequence.run is not None:
            sequence.run.owned = False
            sequence.run = None
            self._forget_front()

    def _forget(self, block: Block) -> None:
        same = self._cached[block.name]
        same.remove(block)
        if not same:
            del self._cached[block.name]

    def _forget_front(self) -> None:
        """Count runs that nobody can hit and that are the oldest as blank: they are taken first either way."""
        idle = self.idle
        while idle:
            entry = next(iter(idle))
            if type(entry) is Block or (type(entry) is Run and entry.owned):
                return
            assert type(entry) is Run
            del idle[entry]
            self._blank += entry.blocks
