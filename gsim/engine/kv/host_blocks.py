"""The reference's host tier: named blocks one by one, least recently used first."""

from __future__ import annotations

from collections.abc import Sequence

from gsim.engine.host_kv import HostKvLimits
from gsim.engine.kv.host_tier import HostTier


class HostBlocks(HostTier):
    """Blocks of the card's cache by name."""

    def __init__(self, limits: HostKvLimits) -> None:
        super().__init__(limits)
        self.names: dict[int, None] = {}
        """In the order of their last use."""

    def match(self, names: Sequence[int]) -> int:
        """How many of the first of some names are here."""
        for i, name in enumerate(names):
            if name not in self.names:
                return i
        return len(names)

    def bring_back(self, names: Sequence[int]) -> None:
        """Copy blocks that are here to the card: they are the last used, a tail before its head."""
        for name in reversed(names):
            del self.names[name]
            self.names[name] = None
        self.brought_back += len(names)

    def fall(self, name: int) -> None:
        """A block has been evicted from the card."""
        if name in self.names:
            del self.names[name]
        else:
            self.fallen += 1
        self.names[name] = None
        if len(self.names) > self.capacity:
            del self.names[next(iter(self.names))]
