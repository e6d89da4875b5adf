"""How fresh a gateway's view is."""

from __future__ import annotations

from dataclasses import dataclass

from gsim.core import ConfigError
from gsim.core.answers import LEAST_INTERVAL_S


@dataclass(frozen=True)
class TelemetryConfig:
    """How fresh the gateway's view is."""

    interval_s: float | None = None
    """Seconds between two scrapes of an instance's metrics; None: what the router's real system uses, else 0.05."""
    in_flight_correction: bool = True
    """Between scrapes, count the gateway's own dispatches and completions into the scraped running and waiting."""
    stream_interval_s: float = 0.5
    """How often the tokens that streamed through the gateway are handed to the estimator."""
    sample_interval_s: float | None = None
    """Record the state of every instance this often, for time lines and figures; None: never."""
    prefix_block_tokens: int = 64
    """Block length of the gateway's approximate prefix index."""
    prefix_capacity: float = 1.0
    """Size of that index per instance, as a multiple of the instance's KV capacity."""
    log_decisions: bool = False
    """Keep what the router saw and chose for every request (``explain``, time lines)."""

    def __post_init__(self) -> None:
        for name in ("interval_s", "stream_interval_s", "sample_interval_s"):
            value = getattr(self, name)
            if value is not None and not value >= LEAST_INTERVAL_S:
                raise ConfigError(f"telemetry.{name} must be {LEAST_INTERVAL_S:g} or more, not {value}")
        if self.prefix_block_tokens < 1:
            raise ConfigError(f"telemetry.prefix_block_tokens must be 1 or more, not {self.prefix_block_tokens}")
        if not self.prefix_capacity > 0:
            raise ConfigError(f"telemetry.prefix_capacity must be greater than 0, not {self.prefix_capacity}")
