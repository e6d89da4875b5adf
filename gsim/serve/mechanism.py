"""Moving by token ids where steps take the time that they take: the estimate is the configured mechanism's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gsim.core import ConfigError
from gsim.core.view import Floats
from gsim.migration import Mechanism, Quote, Step


@dataclass(frozen=True)
class AtOnce:
    """Nothing is waited for: closing one connection and opening another takes its own time."""

    quoted: Mechanism
    carries_kv: ClassVar[bool] = False
    fallback: ClassVar[str] = "token_ids"

    def __post_init__(self) -> None:
        if self.quoted.carries_kv:
            raise ConfigError("mechanism: live servers are moved between by token ids alone: mechanism=token_ids")

    def state_bytes(self, tokens: int, kv_bytes_per_token: float) -> float:
        """None that are waited for."""
        return 0.0

    def overhead_s(self, blocks: int) -> float:
        """None."""
        return 0.0

    def step(self, stage: int, uncopied_blocks: int) -> Step:
        """There is nothing to copy beforehand."""
        return Step.LAST

    def estimate_s(self, quote: Quote) -> Floats:
        """As the configured mechanism estimates."""
        return self.quoted.estimate_s(quote)
