"""What policies answer: where a request goes, who moves, which instances start and stop."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Verdict(Enum):
    """A router's answer that is not an instance."""

    HOLD = "hold"
    """Wait at the gateway; the router is asked again when something changes."""
    REJECT = "reject"
    """Refuse the request: it counts as missed."""


HOLD = Verdict.HOLD
REJECT = Verdict.REJECT

#: An instance's index, HOLD or REJECT.
Decision = int | Verdict


class Migration(NamedTuple):
    """Move one active request to another instance."""

    request_id: int
    target: int
    reason: str = ""


class Start(NamedTuple):
    """Start an instance in a slot that is off."""

    slot: int


class Drain(NamedTuple):
    """Send nothing more to an instance, and stop it when it has nothing left; one that is booting stops at once."""

    slot: int
