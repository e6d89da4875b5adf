"""Rows of one session brought together, wherever they lie in the file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import TypeVar

from gsim.workload.play import Play, Turn
from gsim.workload.report import RowError, RowErrors
from gsim.workload.rows import Row

K = TypeVar("K", bound=Hashable)
Rows = Iterator[tuple[int, Row]]


def grouped(
    read: Callable[[RowErrors], Rows], keys: Callable[[], Callable[[Row], K]], errors: RowErrors
) -> Iterator[tuple[K, list[tuple[int, Row]]]]:
    """The rows of each key together, keys in the order of their first rows.

    Two passes: the first finds every key's last row, so the second holds a session only until it is complete and those
    before it are. A file whose sessions lie one after the other streams; one that interleaves all of them is held.
    ``read`` opens the rows, ``keys`` makes a function from a row to its key (both called once per pass).
    """
    last: dict[K, int] = {}
    key = keys()
    for line, row in read(errors.quiet()):
        try:
            last[key(row)] = line
        except RowError:
            continue
    opened: dict[K, list[tuple[int, Row]]] = {}
    waiting: deque[K] = deque()
    complete: set[K] = set()
    key = keys()
    for line, row in read(errors):
        try:
            name = key(row)
        except RowError as error:
            errors.bad(line, error)
            continue
        if name not in opened:
            opened[name] = []
            waiting.append(name)
        opened[name].append((line, row))
        if last.get(name) == line:
            complete.add(name)
        while waiting and waiting[0] in complete:
            done = waiting.popleft()
            complete.discard(done)
            yield done, opened.pop(done)
    for name in waiting:
        yield name, opened[name]


def play_of(
    rows: list[tuple[int, Row]],
    errors: RowErrors,
    turn_of: Callable[[Row, list[Turn]], Turn | None],
    arrival_of: Callable[[Row], float],
) -> Play | None:
    """A play from a session's rows: ``turn_of`` a row, given the turns before it, is its turn (None: left out).

    The play arrives when the row of its first turn says. None, where no row could be used.
    """
    turns: list[Turn] = []
    arrival_s, first_line = 0.0, 0
    for line, row in rows:
        try:
            turn = turn_of(row, turns)
            if turn is None:
                continue
            if not turns:
                arrival_s, first_line = arrival_of(row), line
        except RowError as error:
            errors.bad(line, error)
            continue
        turns.append(turn)
    return Play(arrival_s, tuple(turns), first_line) if turns else None
