"""How KV caches get from the prefill to the decode instance: fields that every handover policy has."""

from __future__ import annotations

from dataclasses import dataclass

from gsim.core import ConfigError

_WHEN = ("first_token", "arrival")


@dataclass(frozen=True)
class Transfer:
    """When the decode instance is chosen, and what a copy costs beside its bytes.

    The whole prompt's KV cache goes over the link, whatever the target has in its prefix cache. It joins the target's
    queue when it has arrived, and lies in that host's memory until there are blocks for it, as with Mooncake's decode
    instances; with vLLM's connectors it would wait at the source.
    """

    when: str = "first_token"
    """When the decode instance is chosen: at the request's ``first_token``, or at its ``arrival`` together with the
    prefill instance (where REJECT costs nothing yet)."""
    overlap: bool = False
    """Send the KV cache layer by layer while the prompt is computed (``when=arrival`` only). Sent by then is what the
    link alone carries while the prompt alone is computed at nominal speed; the last layer's part is always left."""
    control_s: float = 0.002
    """Handshake of a copy. 0.4 ms (vLLM) and 1.8 ms (SGLang) fit Mooncake's tables; a stock NIXL connector was
    reported at about 0.15 s."""
    block_s: float = 0.0
    """Cost of each KV block (descriptors)."""

    def __post_init__(self) -> None:
        if self.when not in _WHEN:
            raise ConfigError(f"handover.when '{self.when}' is unknown; allowed: {', '.join(_WHEN)}")
        if self.overlap and self.when != "arrival":
            raise ConfigError(
                "handover.overlap: a KV cache that is sent during the prefill needs a target by then: say when=arrival"
            )
        for name in ("control_s", "block_s"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"handover.{name} must be a finite number, 0 or more, not {getattr(self, name)}")

    def overhead_s(self, blocks: int) -> float:
        """Seconds of a copy that are not transfer."""
        return self.control_s + blocks * self.block_s
