"""The waiting queues: first come first served, or by a key: the client's priority, or what a policy says."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol

from gsim.engine.ordering import Ordering
from gsim.engine.sequence import Sequence


class WaitingQueue(Protocol):
    """Sequences that wait, in the order in which they are to be admitted."""

    def append(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        ...

    def appendleft(self, sequence: Sequence) -> None:
        """Queue a preempted sequence."""
        ...

    def popleft(self) -> Sequence:
        """Take the first one out."""
        ...

    def remove(self, sequence: Sequence) -> None:
        """Take any one out."""
        ...

    def __getitem__(self, index: int) -> Sequence: ...

    def __iter__(self) -> Iterator[Sequence]: ...

    def __len__(self) -> int: ...


#: Keys from here on come before all that policies give.
_FRONT: Final = -1e15


class PriorityQueue:
    """Ordered by priority, then by submission, whether new or preempted (vLLM's policy ``priority``)."""

    def __init__(self) -> None:
        self._sequences: list[Sequence] = []

    def append(self, sequence: Sequence) -> None:
        """Insert where its key says."""
        sequence.key = self.key_of(sequence)
        insort(self._sequences, sequence, key=_order)

    def appendleft(self, sequence: Sequence) -> None:
        """Insert where its key says: a preempted one is no exception."""
        self.append(sequence)

    def key_of(self, sequence: Sequence) -> float:
        """Smallest first: the client's priority."""
        return float(sequence.job.request.priority)

    def popleft(self) -> Sequence:
        """Take the first one out."""
        return self._sequences.pop(0)

    def remove(self, sequence: Sequence) -> None:
        """Take any one out."""
        self._sequences.remove(sequence)

    def __getitem__(self, index: int) -> Sequence:
        return self._sequences[index]

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)


class KeyedQueue(PriorityQueue):
    """Ordered by what a policy says, then by submission."""

    def __init__(self, ordering: Ordering) -> None:
        super().__init__()
        self._ordering = ordering

    def key_of(self, sequence: Sequence) -> float:
        """What the policy answers."""
        return self._ordering.key(sequence)

    def arrange(self, first: list[Sequence]) -> None:
        """Put these in front, in this order; everybody else where the policy says now."""
        rank = {sequence: i for i, sequence in enumerate(first)}
        for sequence in self._sequences:
            place = rank.get(sequence)
            sequence.key = self.key_of(sequence) if place is None else _FRONT + place
        self._sequences.sort(key=_order)


def _order(sequence: Sequence) -> tuple[float, float, int | str]:
    return sequence.order


def waiting_queue(policy: str, ordering: Ordering | None = None) -> WaitingQueue:
    """The queue of a policy: ``fcfs``, ``priority``, or what ``ordering`` asks."""
    if ordering is not None:
        return KeyedQueue(ordering)
    return PriorityQueue() if policy == "priority" else deque()
