"""Where the simulated clock of a run is, left in a small file for whoever waits for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

_EVERY_S = 1.0
_PREFIX = ".clock-"


class Watched(Protocol):
    """A clock that can be read."""

    @property
    def now(self) -> float:
        """Simulated seconds."""
        ...


class Pulse:
    """Keeps the file of one process up to date, second by second, while a run goes on; short runs write none."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{_PREFIX}{os.getpid()}"
        self._clock: Watched | None = None
        self._over = threading.Event()

    def watch(self, clock: Watched) -> None:
        """From now on it is this clock."""
        self._clock = clock

    def _beat(self) -> None:
        while not self._over.wait(_EVERY_S):
            if self._clock is not None:
                # It is for people: a disk that is full stops no run.
                with suppress(OSError):
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    self._path.write_text(f"{self._clock.now}", encoding="ascii")

    @contextmanager
    def beating(self) -> Iterator[Pulse]:
        """It beats inside."""
        thread = threading.Thread(target=self._beat, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


def clocks(folder: Path) -> list[float]:
    """The simulated seconds at which the runs are that go on in a folder, latest last."""
    found = []
    for path in folder.glob(f"{_PREFIX}*"):
        # It may be gone, or half written, at this very moment.
        with suppress(OSError, ValueError):
            found.append(float(path.read_text(encoding="ascii")))
    return sorted(found)


def swept(folder: Path) -> None:
    """Remove what processes left that were killed."""
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            path.unlink()
