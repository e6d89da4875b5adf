"""What ``python -m gsim.emulate`` is asked for, beside the pool and its engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from gsim.core import ConfigError

_FAULT_FIELDS = ("kind", "instance", "at_s", "for_s", "factor")


@dataclass
class EmulateConfig:
    """How a pool is served."""

    port: int = 8100
    """Port of the first instance; the others have the next ones. 0: free ports, which are printed."""
    host: str = "127.0.0.1"
    """Address to listen on. Anything but this machine's own is open to whoever reaches it: there are no keys."""
    speed: float = 1.0
    """Seconds of the engines per second of real time."""
    served_model: str | None = None
    """Name of the model that is served; null: the profile's."""
    vocabulary: int = 32_000
    """Generated token ids are below this."""
    output_tokens: str = ""
    """{chat: [20, 400], other: [100, 500]}: per task class (``other``: all that are not named) the shortest and the
    longest answer, drawn uniformly, where a request does not say how long its answer is. Else: as long as it allows."""
    seed: int = 0
    """Of the drawn lengths."""
    max_body_bytes: int = 16 << 20
    """Requests that are larger are refused."""
    plan: str = ""
    """Faults: [{kind: crash, instance: 1, at_s: 10, for_s: 5}, ...]; at any time also POST /faults {kind, for_s}."""

    def validate(self) -> None:
        """Refuse what cannot be served; raises ``ConfigError``."""
        if not 0 <= self.port < 65_536:
            raise ConfigError(f"port must be from 0 to 65535, not {self.port}")
        if not 0 < self.speed <= 1000:
            raise ConfigError(f"speed must be above 0 and at most 1000, not {self.speed}")
        if self.max_body_bytes < 1:
            raise ConfigError(f"max_body_bytes must be 1 or more, not {self.max_body_bytes}")
        _ = self.lengths, self.faults

    @property
    def lengths(self) -> dict[str, list[int]]:
        """``output_tokens``, read; raises ``ConfigError``."""
        read = _yaml("output_tokens", self.output_tokens) or {}
        if not isinstance(read, dict):
            raise ConfigError(f"output_tokens must be like {{chat: [20, 400]}}, not {self.output_tokens}")
        for task, span in read.items():
            whole = isinstance(span, list) and len(span) == 2 and all(type(n) is int for n in span)
            if not whole or not 1 <= span[0] <= span[1]:
                raise ConfigError(f"output_tokens: {task} must be [low, high] with 1 <= low <= high, not {span}")
        return read

    @property
    def faults(self) -> list[dict[str, Any]]:
        """``plan``, read; raises ``ConfigError``."""
        read = _yaml("plan", self.plan) or []
        if not isinstance(read, list) or not all(isinstance(fault, dict) for fault in read):
            raise ConfigError(f"plan must be like [{{kind: crash, at_s: 10}}], not {self.plan}")
        for fault in read:
            unknown = sorted(set(fault) - set(_FAULT_FIELDS))
            if unknown:
                raise ConfigError(f"plan: a fault has no field '{unknown[0]}'; allowed: {', '.join(_FAULT_FIELDS)}")
            at_s = fault.get("at_s", 0.0)
            if not isinstance(at_s, int | float) or not 0 <= at_s < float("inf"):
                raise ConfigError(f"plan: at_s must be seconds, 0 or more, not {at_s}")
        return read


def _yaml(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{name}={text}: brackets, commas or colons are not as YAML has them") from None
