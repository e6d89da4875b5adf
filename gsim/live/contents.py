"""Token ids as contents: prompts that begin with the same ids get the same leading pieces, so prefixes are found."""

from __future__ import annotations

from array import array
from collections import OrderedDict

from gsim.core import Content


class _Stretch:
    """Ids that were first seen in one prompt or answer; others may leave it at any place."""

    __slots__ = ("above", "ids", "key", "next", "segment")

    def __init__(self, segment: int, ids: array[int], above: _Stretch | None, key: tuple[int, int]) -> None:
        self.segment = segment
        self.ids = ids
        self.above = above
        self.key = key
        """Where it leaves the stretch above it: after how many ids, and with which id."""
        self.next: dict[tuple[int, int], _Stretch] = {}


class Contents:
    """A tree of the ids that were seen, up to ``capacity`` of them; what was not used for longest is forgotten first.

    To forget costs hits, and nothing else: a text that comes again is a new one.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._root = _Stretch(-1, array("q"), None, (0, 0))
        self._used: OrderedDict[_Stretch, None] = OrderedDict()
        self._held = 0
        self._segments = 0

    def __len__(self) -> int:
        """How many ids are kept."""
        return self._held

    def pieces(self, ids: list[int]) -> Content:
        """The content of a prompt; what of it is new is remembered."""
        content, stretch, at, taken = self._walk(ids)
        if taken < len(ids):
            segment = self._add(stretch, at, array("q", ids[taken:])).segment
            content.append((segment, len(ids) - taken))
        self._trim()
        return tuple(content)

    def new_segment(self) -> int:
        """A segment for what will be generated (see ``generated``)."""
        self._segments += 1
        return self._segments - 1

    def generated(self, prompt: list[int], output: list[int], segment: int) -> None:
        """Remember what was generated after a prompt, as ``segment``, unless it was known already."""
        _, stretch, at, taken = self._walk(prompt)
        if taken < len(prompt) or not output or (at, output[0]) in stretch.next:
            return
        if at < len(stretch.ids) and stretch.ids[at] == output[0]:
            return
        self._add(stretch, at, array("q", output), segment)
        self._trim()

    def _walk(self, ids: list[int]) -> tuple[list[tuple[int, int]], _Stretch, int, int]:
        """As far as ids are known: the pieces, the stretch and the place in it where they end, how many they are."""
        content: list[tuple[int, int]] = []
        stretch, at, taken = self._root, 0, 0
        while taken < len(ids):
            below = stretch.next.get((at, ids[taken]))
            if below is None:
                break
            stretch = below
            self._used.move_to_end(stretch)
            at = _common(stretch.ids, ids, taken)
            content.append((stretch.segment, at))
            taken += at
        return content, stretch, at, taken

    def _add(self, above: _Stretch, at: int, ids: array[int], segment: int | None = None) -> _Stretch:
        key = (at, ids[0])
        made = _Stretch(self.new_segment() if segment is None else segment, ids, above, key)
        above.next[key] = made
        self._used[made] = None
        self._held += len(ids)
        return made

    def _trim(self) -> None:
        gone: list[_Stretch] = []
        for stretch in self._used:
            if self._held <= self._capacity:
                break
            # Whoever has others below it is still needed to find them.
            if not stretch.next and stretch.above is not None:
                gone.append(stretch)
                self._held -= len(stretch.ids)
        for stretch in gone:
            assert stretch.above is not None
            del stretch.above.next[stretch.key]
            del self._used[stretch]


def _common(known: array[int], ids: list[int], start: int) -> int:
    """How many ids of ``known`` are those of ``ids`` from ``start`` on (the first is known to be)."""
    most = min(len(known), len(ids) - start)
    if known[:most].tolist() == ids[start : start + most]:
        return most
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        if known[low:middle].tolist() == ids[start + low : start + middle]:
            low = middle
        else:
            high = middle
    return low
