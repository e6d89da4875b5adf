"""KV blocks in the order in which they were last used: a linked list, so that an entry can be cut in its place."""

from __future__ import annotations

from collections.abc import Iterator


class Entry:
    """Blocks that were last used together, and are evicted from their end."""

    __slots__ = ("blocks", "newer", "older")

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        """How many there still are."""
        self.older: Entry | None = None
        self.newer: Entry | None = None


class Lru:
    """Entries, least recently used first. An entry is in one list at most."""

    __slots__ = ("newest", "oldest")

    def __init__(self) -> None:
        self.oldest: Entry | None = None
        self.newest: Entry | None = None

    def __iter__(self) -> Iterator[Entry]:
        entry = self.oldest
        while entry is not None:
            yield entry
            entry = entry.newer

    def push(self, entry: Entry) -> None:
        """``entry``, which is in no list, was used just now."""
        newest = self.newest
        entry.older = newest
        if newest is None:
            self.oldest = entry
        else:
            newest.newer = entry
        self.newest = entry

    def remove(self, entry: Entry) -> None:
        """Take ``entry`` out of this list."""
        older, newer = entry.older, entry.newer
        if older is None:
            self.oldest = newer
        else:
            older.newer = newer
        if newer is None:
            self.newest = older
        else:
            newer.older = older
        entry.older = entry.newer = None

    def replace(self, entry: Entry, older: Entry, newer: Entry) -> None:
        """Put two entries in the place of one."""
        before, after = entry.older, entry.newer
        older.older, older.newer = before, newer
        newer.older, newer.newer = older, after
        if before is None:
            self.oldest = older
        else:
            before.newer = older
        if after is None:
            self.newest = newer
        else:
            after.older = newer
        entry.older = entry.newer = None
