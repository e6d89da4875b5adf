"""The reference's KV pool: every named block is an object, as in vLLM."""

from __future__ import annotations

from typing import cast

from gsim.core.content import block_hashes, head
from gsim.core.lru import Entry
from gsim.core.request import Content
from gsim.engine.host_kv import HostKvLimits
from gsim.engine.kv.host_blocks import HostBlocks
from gsim.engine.kv.kv_pool import KvPool, Match
from gsim.engine.sequence import Hold, Sequence


class Block(Entry):
    """A named, full KV block: hashed content that other prompts may share."""

    __slots__ = ("name", "refs")

    def __init__(self, name: int) -> None:
        super().__init__(1)
        self.name = name
        self.refs = 1


class BlockHold(Hold):
    """The names of a sequence's blocks, as far as they have been asked for, and the named blocks that it holds."""

    __slots__ = ("blocks", "names")

    def __init__(self, pieces: Content, first_generated: int) -> None:
        super().__init__(pieces, first_generated)
        self.names: list[int] = []
        self.blocks: list[Block] = []

    def first(self, blocks: int, size: int) -> list[int]:
        """The names of at least the first ``blocks`` blocks."""
        names = self.names
        if len(names) < blocks:
            parent = names[-1] if names else 0
            names += block_hashes(head(self.pieces, blocks * size), size, parent=parent, skip=len(names) * size)
        return names


class BlockMatch(Match):
    """Cached blocks, the first of each name."""

    __slots__ = ("hits",)

    def __init__(self, hits: list[Block]) -> None:
        super().__init__()
        self.blocks = len(hits)
        self.hits = hits


class BlockPool(KvPool):
    """Blocks by name, one at a time."""

    def __init__(self, blocks: int, block_size: int, caching: bool, host: HostKvLimits | None = None) -> None:
        self._host = HostBlocks(host) if host is not None else None
        super().__init__(blocks, block_size, caching, self._host)
        self.cached: dict[int, list[Block]] = {}
        """By name. Two sequences that compute the same content at the same time hold two blocks of one name."""

    def hold_of(self, pieces: Content, first_generated: int) -> Hold:
        """See ``KvPool``."""
        return BlockHold(pieces, first_generated)

    def match(self, sequence: Sequence) -> Match:
        """See ``KvPool``."""
        hits: list[Block] = []
        hold = sequence.hold
        names: list[int] = []
        if hold is not None:
            most = (sequence.length - 1) // self.block_size
            names = cast(BlockHold, hold).first(most, self.block_size)[:most]
            for name in names:
                found = self.cached.get(name)
                if found is None:
                    break
                hits.append(found[0])
        match = BlockMatch(hits)
        if self._host is not None:
            match.host_blocks = self._host.match(names[len(hits) :])
        return match

    def held_among(self, match: Match) -> int:
        """See ``KvPool``."""
        return sum(block.refs > 0 for block in cast(BlockMatch, match).hits)

    def name(self, sequence: Sequence, tokens: int) -> None:
        """See ``KvPool``."""
        hold = cast(BlockHold, sequence.hold)
        full = tokens // self.block_size
        for name in hold.first(full, self.block_size)[len(hold.blocks) : full]:
            block = Block(name)
            self.cached.setdefault(name, []).append(block)
            hold.blocks.append(block)

    def _hold(self, sequence: Sequence, match: Match) -> None:
        hits = cast(BlockMatch, match).hits
        for block in hits:
            if block.refs == 0:
                self.idle.remove(block)
                self.free -= 1
            else:
                self.shared += 1
            block.refs += 1
        cast(BlockHold, sequence.hold).blocks = hits

    def _let_go(self, hold: Hold) -> int:
        mine = cast(BlockHold, hold).blocks
        cast(BlockHold, hold).blocks = []
        for block in reversed(mine):
            block.refs -= 1
            if block.refs == 0:
                self.idle.push(block)
                self.free += 1
            else:
                self.shared -= 1
        return len(mine)

    def _bring_back(self, sequence: Sequence, match: Match) -> None:
        host = self._host
        assert host is not None
        host.looked_up += sequence.length
        first = match.blocks
        host.bring_back(cast(BlockHold, sequence.hold).names[first : first + match.host_blocks])

    def _forget(self, entry: Entry, evicted: int) -> None:
        block = cast(Block, entry)
        if self._host is not None:
            self._host.fall(block.name)
        same = self.cached[block.name]
        same.remove(block)
        if not same:
            del self.cached[block.name]
