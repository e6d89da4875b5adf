"""Where a profile may be asked: what was measured, and how far it may be extrapolated."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from gsim.core.errors import ProfileError


@dataclass(frozen=True, slots=True)
class Extent:
    """The largest iteration in each direction."""

    sequences: int
    """Sequences in a batch."""
    batch_tokens: int
    """Tokens computed in one iteration (prefill and decode together)."""
    context_tokens: int
    """Tokens of one sequence, those computed in the iteration included."""

    def __post_init__(self) -> None:
        for field in ("sequences", "batch_tokens", "context_tokens"):
            if getattr(self, field) < 1:
                raise ProfileError(f"domain: {field} must be at least 1, not {getattr(self, field)}")


@dataclass(frozen=True, slots=True)
class Domain:
    """Measured extent of a profile, and the extent to which it may be asked.

    Between ``measured`` and ``limit`` times are extrapolated, linearly in batch and tokens, and never fall; beyond
    ``limit`` asking is a ``ProfileError``. Where no extrapolation is declared, ``limit`` equals ``measured``.
    """

    measured: Extent
    limit: Extent
    profile: str = "profile"
    """Whose domain it is, for messages."""

    def __post_init__(self) -> None:
        for field in ("sequences", "batch_tokens", "context_tokens"):
            if getattr(self.limit, field) < getattr(self.measured, field):
                raise ProfileError(
                    f"{self.profile}: domain: extrapolation limit of {field} ({getattr(self.limit, field)}) is below "
                    f"what was measured ({getattr(self.measured, field)})"
                )

    @property
    def extrapolates(self) -> bool:
        """True if some iterations may be asked for that are larger than any measured one."""
        return self.limit != self.measured

    def refuse(self, what: str, value: float, allowed: float) -> ProfileError:
        """The error of a question outside the domain."""
        measured = f" (measured up to {getattr(self.measured, what)})" if self.extrapolates else ""
        return ProfileError(
            f"{self.profile}: asked for {value:g} {what.replace('_', ' ')} in an iteration; "
            f"the profile's domain ends at {allowed:g}{measured}"
        )


def by_fields(model: Any) -> tuple[type, tuple[Any, ...]]:
    """How to pickle a frozen dataclass, also where it is compiled: build it anew from its fields (``__reduce__``)."""
    return type(model), tuple(getattr(model, field.name) for field in fields(model) if field.init)
