"""What a real run is allowed to change of a profile made of operators."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from gsim.latency import OperatorModel, Profile


@dataclass(frozen=True)
class Correction:
    """What is changed of the operators' sum."""

    overhead_s: float = 0.0
    """Seconds per iteration beside the sum; below 0: less than the sum."""
    attention: float = 1.0
    """Factor on measured attention."""
    token_s: float = 0.0
    """Seconds of one all-reduce per token in it, where several cards share the layers and none is stated ..."""
    large_token_s: float = 0.0
    """... and per token beyond those of a small message."""
    share: float | None = None
    """Share of independent choice in the experts that a batch activates; None: as the profile has it."""
    preference: float | None = None
    """Exponent of the preference for some experts; None: as the profile has it."""

    def applied(self, profile: Profile) -> Profile:
        """The profile with this correction; one that is not made of operators as it is."""
        latency = profile.latency
        if not isinstance(latency, OperatorModel):
            return profile
        tables = latency.tables
        if self.attention != 1.0:
            decode_s, mixed_s = tables.decode_s * self.attention, tables.mixed_s * self.attention
            tables = dataclasses.replace(tables, decode_s=decode_s, mixed_s=mixed_s)
        communication, activation = latency.communication, latency.activation
        if self.token_s or self.large_token_s:
            communication = dataclasses.replace(communication, token_s=self.token_s, large_token_s=self.large_token_s)
        if self.share is not None and activation is not None:
            activation = dataclasses.replace(activation, share=self.share, preference=self.preference or 0.0)
        corrected = dataclasses.replace(
            latency,
            tables=tables,
            overhead_s=latency.overhead_s + self.overhead_s,
            communication=communication,
            activation=activation,
        )
        return dataclasses.replace(profile, latency=corrected)
