"""What rectifiers that move a few requests at a time have in common: how often they look, and whom they spare."""

from __future__ import annotations

from typing import Protocol

from gsim.core import ConfigError


class Limited(Protocol):
    """A rectifier with the usual limits."""

    interval_s: float
    max_inflight: int
    max_moves: int
    no_return_s: float


def check_limits(rectifier: Limited) -> None:
    """``ConfigError`` for limits that no review can keep."""
    if not rectifier.interval_s > 0:
        raise ConfigError(f"rectifier.interval_s must be greater than 0, not {rectifier.interval_s}")
    for name in ("max_inflight", "max_moves"):
        if getattr(rectifier, name) < 1:
            raise ConfigError(f"rectifier.{name} must be 1 or more, not {getattr(rectifier, name)}")
    if not rectifier.no_return_s >= 0:
        raise ConfigError(f"rectifier.no_return_s must be 0 or more, not {rectifier.no_return_s}")
