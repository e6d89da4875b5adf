"""Checks of the predictors' fields."""

from __future__ import annotations

from gsim.core import ConfigError

#: No answer is longer; what is predicted is computed with.
MOST_TOKENS = 1_000_000_000


def check_counts(config: object, *names: str) -> None:
    """Raise ``ConfigError`` where one of the fields is less than 1, or more than any output has tokens."""
    for name in names:
        value = getattr(config, name)
        if value < 1:
            raise ConfigError(f"predictor.{name} must be 1 or more, not {value}")
        if value > MOST_TOKENS:
            raise ConfigError(f"predictor.{name} must be from 1 to {MOST_TOKENS}, not {value}")
