"""A stopwatch around methods, from outside: what they take in wall time, without a clock inside of them.

A policy gets a double, which has every method of the policy and so follows the same protocols; what the simulator makes
for itself is timed by replacing methods of its classes for as long as a ``with`` lasts.
"""

from __future__ import annotations

import functools
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

P = TypeVar("P")


class Watched(NamedTuple):
    """A method of a class to be timed, and the name under which its calls are counted."""

    part: str
    owner: type
    method: str


class Stopwatch:
    """Wall seconds of every call, by part. A call inside of another counts for its own part only."""

    def __init__(self) -> None:
        self.running = False
        """Calls that end while it does not run are not counted."""
        self.wall_s = 0.0
        """For how long it ran in all."""
        self.unseen: set[str] = set()
        """Parts whose classes are compiled: their calls to one another cannot be seen from outside."""
        self._calls: dict[str, array[float]] = {}
        self._nested_s: list[float] = []
        """Per call under way: what calls inside of it took."""
        self._started_s = 0.0

    def start(self) -> None:
        """Count from now on."""
        self.running = True
        self._started_s = perf_counter()

    def stop(self) -> None:
        """Count no more."""
        if self.running:
            self.wall_s += perf_counter() - self._started_s
        self.running = False

    def seconds(self, part: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The seconds of each call of a part."""
        return np.array(self._calls.get(part, ()), dtype=np.float64)

    @property
    def parts(self) -> list[str]:
        """The parts that were called, in the order of their first call."""
        return list(self._calls)

    def around(self, policy: P, parts: Mapping[str, str]) -> P:
        """A double of the policy that times these methods (name -> part) where the policy has them."""
        kind = type(policy)
        body: dict[str, Any] = {"__getattr__": lambda _double, name: getattr(policy, name)}
        for name in dir(kind):
            if not name.startswith("_") and callable(getattr(kind, name)):
                call = getattr(policy, name)
                body[name] = staticmethod(self._timed(call, parts[name]) if name in parts else call)
        return cast(P, type(kind.__name__, (), body)())

    @contextmanager
    def on(self, watched: Iterable[Watched]) -> Iterator[None]:
        """Time these methods inside the ``with``."""
        replaced: list[tuple[type, str, Any]] = []
        try:
            for part, owner, method in watched:
                if not _is_interpreted(owner):
                    self.unseen.add(part)
                    continue
                # An inherited method is shadowed, and uncovered again.
                replaced.append((owner, method, vars(owner).get(method)))
                setattr(owner, method, self._timed(getattr(owner, method), part))
            yield
        finally:
            for owner, method, own in reversed(replaced):
                if own is None:
                    delattr(owner, method)
                else:
                    setattr(owner, method, own)

    def _timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        nested_s = self._nested_s

        @functools.wraps(function)
        def timed(*args: Any, **named: Any) -> Any:
            nested_s.append(0.0)
            begin_s = perf_counter()
            try:
                return function(*args, **named)
            finally:
                spent_s = perf_counter() - begin_s
                own_s = spent_s - nested_s.pop()
                if nested_s:
                    nested_s[-1] += spent_s
                if self.running:
                    self._calls.setdefault(part, array("d")).append(own_s)

        return timed


def _is_interpreted(owner: type) -> bool:
    return str(getattr(sys.modules.get(owner.__module__), "__file__", "")).endswith(".py")
