"""Sessions that are drawn once and replayed: all policies of a grid point and seed see the same ones.

Drawing a session takes a share of what simulating it takes, reading one from a recorded trace more. A shelf holds the
sessions of one workload and one seed, as far as a run has asked for them: the next run of the same workload and seed
replays them, and goes on drawing where they end. They are the very objects, which nothing can change.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from gsim.core import Population, Session

#: Requests that a shelf holds at most, about a kilobyte each. A longer workload is drawn anew for every run.
MOST_REQUESTS = 100_000


class Load(Protocol):
    """What a shelf asks of a run's configuration (``gsim.run.settings.Settings``)."""

    def workload(self) -> str:
        """A name of what arrives: equal names and seeds, equal sessions."""
        ...

    def trace(self) -> Any:
        """A fresh trace."""
        ...

    def load(self, seed: int, trace: Any = None) -> Iterator[Session] | Population:
        """What the run of this seed is under, drawn from ``trace``."""
        ...


class Kept:
    """An iterator's sessions from its beginning, for one reader after another.

    One reader at a time: a new one begins at the first session, and the one before must not go on.
    """

    def __init__(self, source: Iterator[Session], most_requests: int) -> None:
        self._source = source
        self._room = most_requests
        self._kept: list[Session] = []
        self.whole = True
        """The first session is still there: another reader can begin."""

    def __iter__(self) -> Iterator[Session]:
        """The sessions from the first on; what is not kept yet is drawn, and kept while there is room."""
        kept = self._kept
        yield from kept
        for session in self._source:
            if self.whole:
                kept.append(session)
                self._room -= len(session.jobs)
                if self._room < 0:
                    self.whole = False
                    kept.clear()
            yield session


class Shelf:
    """The sessions of the workload and seed that were asked for last."""

    def __init__(self, most_requests: int = MOST_REQUESTS) -> None:
        self._most = most_requests
        self._held: tuple[str, int] | None = None
        self._trace: Any = None
        self._kept: Kept | None = None
        self._population: Population | None = None

    def take(self, settings: Load, seed: int) -> tuple[Any, Iterator[Session] | Population]:
        """What a run of this configuration and seed is under, and the trace that it is drawn from (for its report)."""
        asked = (settings.workload(), seed)
        if asked != self._held or self._kept is None or not self._kept.whole:
            self._fill(settings, seed, asked)
        assert self._kept is not None
        sessions = iter(self._kept)
        if self._population is not None:
            return self._trace, self._population._replace(later=sessions)
        return self._trace, sessions

    def _fill(self, settings: Load, seed: int, asked: tuple[str, int]) -> None:
        self._held, self._kept = None, None  # what was held goes before more is drawn
        self._trace = settings.trace()
        load = settings.load(seed, self._trace)
        self._population = load if isinstance(load, Population) else None
        source = load.later if isinstance(load, Population) else load
        self._held, self._kept = asked, Kept(source, self._most)
