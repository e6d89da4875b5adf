"""The waiting queues: first come first served, or by priority."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator
from typing import Protocol

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


class PriorityQueue:
    """Ordered by priority, then by submission, whether new or preempted (vLLM's policy ``priority``)."""

    def __init__(self) -> None:
        self._sequences: list[Sequence] = []

    def append(self, sequence: Sequence) -> None:
        """Insert where its priority says."""
        insort(self._sequences, sequence, key=_order)

    def appendleft(self, sequence: Sequence) -> None:
        """Insert where its priority says: a preempted one is no exception."""
        self.append(sequence)

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


def _order(sequence: Sequence) -> tuple[int, float, int | str]:
    return sequence.order


def waiting_queue(policy: str) -> WaitingQueue:
    """The queue of a policy: ``fcfs`` or ``priority``."""
    return PriorityQueue() if policy == "priority" else deque()
