"""Checks of the predictors' fields."""

from __future__ import annotations

from gsim.core import ConfigError


def check_counts(config: object, *names: str) -> None:
    """Raise ``ConfigError`` where one of the fields is less than 1."""
    for name in names:
        value = getattr(config, name)
        if value < 1:
            raise ConfigError(f"predictor.{name} must be 1 or more, not {value}")
