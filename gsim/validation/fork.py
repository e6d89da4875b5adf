"""A scheduler copied with all that it holds, so that two replays can go on from one state.

Piece by piece, as compiled classes know no ``copy.deepcopy``. Names of blocks are shared: they only ever grow, alike.
"""

from __future__ import annotations

from gsim.core.lru import Entry
from gsim.engine.kv.block_pool import Block, BlockHold, BlockPool
from gsim.engine.kv.kv_pool import KvPool
from gsim.engine.scheduler import Scheduler
from gsim.engine.sequence import Hold, OwnBlocks, Sequence

#: What a sequence has beside its constructor's arguments and its blocks.
_COUNTERS = (
    "aborted", "base", "blocks", "computed", "generated", "hit_tokens", "leaves", "number", "preemptions",
)  # fmt: skip


class Copies:
    """Copies of an engine's pieces, each made once."""

    def __init__(self) -> None:
        self._blocks: dict[int, Block] = {}
        self._own: dict[int, OwnBlocks] = {}
        self._sequences: dict[int, Sequence] = {}

    def scheduler(self, old: Scheduler) -> Scheduler:
        """The same running and waiting sequences over a pool in the same state."""
        new = Scheduler(old.limits, self._pool(old.pool))
        new.running = {self.sequence(sequence): None for sequence in old.running}
        for sequence in old.waiting:
            new.waiting.append(self.sequence(sequence))
        return new

    def sequence(self, old: Sequence) -> Sequence:
        """The copy of a sequence."""
        new = self._sequences.get(id(old))
        if new is None:
            hold = None if old.hold is None else self._hold(old.hold)
            new = Sequence(old.job, old.submitted_s, old.tie, old.stop, old.kv_tokens, hold)
            self._sequences[id(old)] = new
            for name in _COUNTERS:
                setattr(new, name, getattr(old, name))
            new.own = None if old.own is None else self._own_blocks(old.own)
        return new

    def _pool(self, old: KvPool) -> BlockPool:
        assert isinstance(old, BlockPool)
        new = BlockPool(old.total, old.block_size, old.caching)
        new.free, new.shared = old.free, old.shared
        for entry in old.idle:
            new.idle.push(self._own_blocks(entry) if isinstance(entry, OwnBlocks) else self._block(entry))
        new._blank = old._blank
        new.cached = {name: [self._block(block) for block in blocks] for name, blocks in old.cached.items()}
        return new

    def _hold(self, old: Hold) -> BlockHold:
        assert isinstance(old, BlockHold)
        new = BlockHold(old.pieces, old.first_generated)
        new.names = old.names
        new.blocks = [self._block(block) for block in old.blocks]
        return new

    def _block(self, old: Entry) -> Block:
        assert isinstance(old, Block)
        new = self._blocks.get(id(old))
        if new is None:
            new = self._blocks[id(old)] = Block(old.name)
            new.refs = old.refs
        return new

    def _own_blocks(self, old: OwnBlocks) -> OwnBlocks:
        return self._own.setdefault(id(old), OwnBlocks(old.blocks, old.hittable))
