"""Who computes a sweep: this process, or workers beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gsim.core import ConfigError
from gsim.library.extensions import Registered
from gsim.run.extensions import enter
from gsim.study.workers import all_alive, end_with


@dataclass(frozen=True)
class Work:
    """Who computes: this process, or workers that stand where it stands and know what it knows."""

    workers: int
    extensions: tuple[str, ...]
    registered: Registered
    folder: str = field(default_factory=os.getcwd)

    def __post_init__(self) -> None:
        if type(self.workers) is not int or self.workers == 0:
            raise ConfigError(f"workers must be a number of processes (-1: one per processor), not {self.workers!r}")

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """``[function(item) for item in items]``, over the workers."""
        if self.workers == 1 or len(items) < 2:
            return [function(item) for item in items]
        from joblib import Parallel, delayed

        job = delayed(_elsewhere)
        jobs = (job(function, item, self.folder, self.extensions, self.registered, os.getpid()) for item in items)
        with all_alive():
            found: list[Any] = Parallel(n_jobs=self.workers)(jobs)
        return found


def _elsewhere(
    function: Callable[[Any], Any],
    item: Any,
    folder: str,
    extensions: tuple[str, ...],
    registered: Registered,
    parent: int,
) -> Any:
    end_with(parent)
    enter(folder, extensions)
    registered.there()
    return function(item)
