"""When a run stops, where its load does not end by itself."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from gsim.core import ConfigError


@dataclass(frozen=True)
class Horizon:
    """A run under load that never ends: which sessions it waits for, and for how long.

    It stops when every session that began in [``since_s``, ``until_s``) has ended, though not before ``until_s``, and
    at ``end_s`` at the latest. Whatever is still open then is cut.
    """

    until_s: float
    end_s: float
    since_s: float = inf
    """Infinite: no session is waited for."""

    def __post_init__(self) -> None:
        if not 0 < self.until_s <= self.end_s < inf:
            raise ConfigError(f"a run stops at {self.end_s} s, which must be finite and not before {self.until_s} s")

    def awaits(self, began_s: float) -> bool:
        """Whether a session that began then must have ended before the run stops."""
        return self.since_s <= began_s < self.until_s
