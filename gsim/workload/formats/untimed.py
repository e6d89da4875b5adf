"""What traces share whose files do not say when sessions begin: arrivals are drawn."""

from __future__ import annotations

from dataclasses import dataclass, field

from gsim.workload.arrivals import ArrivalConfig
from gsim.workload.formats.recorded import Recorded


@dataclass(frozen=True, kw_only=True)
class Untimed(Recorded):
    """A trace of sessions without the times at which they begin."""

    rate_per_s: float | None = 1.0
    """Mean request rate: sessions arrive at this rate over their mean number of requests."""
    arrivals: ArrivalConfig = field(default_factory=ArrivalConfig)
    """When sessions arrive (the file does not say)."""
