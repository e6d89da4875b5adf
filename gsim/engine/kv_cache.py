"""KV blocks and the prefix cache of one engine, as vLLM's block pool manages them.

vLLM keeps free blocks in one queue: blocks whose content is not cached return to its front, cached ones to its back,
and allocation takes from the front. So uncached blocks are always used up first, and the rest is an LRU of cached blocks:
uncached free blocks need no identity, a count will do.
"""

from __future__ import annotations

from collections import OrderedDict

from gsim.core import SimulationError


class Block:
    """A block in use, or a free one whose content is cached."""

    __slots__ = ("content_hash", "references")

    def __init__(self) -> None:
        self.content_hash: int | None = None
        self.references = 1


class KVCache:
    """The blocks of one engine. Invariant: uncached free + cached free + referenced = total."""

    def __init__(self, blocks: int) -> None:
        self.total = blocks
        self._uncached_free = blocks
        self._evictable: OrderedDict[int, Block] = OrderedDict()
        # Equal content computed twice at the same time is held twice: several blocks may share a hash.
        self._by_hash: dict[int, dict[int, Block]] = {}

    @property
    def free(self) -> int:
        """Blocks that an allocation may take (cached, unreferenced blocks count as free)."""
        return self._uncached_free + len(self._evictable)

    @property
    def usage(self) -> float:
        """Share of the blocks that live requests hold."""
        return 1.0 - self.free / self.total

    def find(self, hashes: list[int], at_most: int) -> list[Block]:
        """The longest cached run of leading blocks (not more than ``at_most``); changes nothing."""
        found: list[Block] = []
        for content_hash in hashes[:at_most]:
            same = self._by_hash.get(content_hash)
            if not same:
                break
            found.append(next(iter(same.values())))
        return found

    def unreferenced(self, blocks: list[Block]) -> int:
        """How many of some cached blocks are free at present (using them takes them from the free ones)."""
        return sum(1 for block in blocks if block.references == 0)

    def share(self, blocks: list[Block]) -> None:
        """Refer to cached blocks once more."""
        for block in blocks:
            if block.references == 0:
                del self._evictable[id(block)]
            block.references += 1

    def allocate(self, count: int) -> list[Block]:
        """Fresh blocks; the caller has checked that so many are free."""
        taken = min(count, self._uncached_free)
        self._uncached_free -= taken
        for _ in range(count - taken):
            if not self._evictable:
                raise SimulationError(f"KV cache: {count} blocks allocated, but none is free")
            _, block = self._evictable.popitem(last=False)
            self._forget(block)
        return [Block() for _ in range(count)]

    def cache(self, block: Block, content_hash: int) -> None:
        """The block is full: equal prefixes may find it from now on."""
        block.content_hash = content_hash
        self._by_hash.setdefault(content_hash, {})[id(block)] = block

    def release(self, blocks: list[Block]) -> None:
        """A request gives its blocks back, its last one first, so that tails are evicted before heads."""
        for block in reversed(blocks):
            block.references -= 1
            if block.references == 0:
                if block.content_hash is None:
                    self._uncached_free += 1
                else:
                    self._evictable[id(block)] = block

    def _forget(self, block: Block) -> None:
        content_hash = block.content_hash
        if content_hash is None:
            raise SimulationError("KV cache: an evictable block has no content")
        same = self._by_hash[content_hash]
        del same[id(block)]
        if not same:
            del self._by_hash[content_hash]
