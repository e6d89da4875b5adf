"""The places in a pool, as a scaler sees them: which hold an instance, and in what state it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from gsim.core.view import Bools, Floats, Ints


class SlotState(IntEnum):
    """What is in a slot. The pool's arrays have one entry per slot, whatever is in it."""

    OFF = 0
    """Nothing, and nothing is paid for it."""
    BOOTING = 1
    """An instance that starts and loads its model; it is paid for."""
    UP = 2
    """An instance that serves (unless it has crashed: see ``available``)."""
    DRAINING = 3
    """An instance that gets nothing more and finishes what it has; it is paid for."""


@dataclass(frozen=True, slots=True)
class Slots:
    """All slots at one review (arrays over the slots, in the order of the view; read-only)."""

    state: Ints
    """A ``SlotState`` each."""
    since_s: Floats
    """When each slot came into its state."""
    boot_s: Floats
    """How long an instance that is started now takes until it serves."""
    held: int
    """Requests that wait at the gateway: the router holds them, or nothing could take them."""

    def __len__(self) -> int:
        return len(self.state)

    @property
    def up(self) -> Bools:
        """Slots whose instance serves."""
        mask: Bools = self.state == SlotState.UP
        return mask

    @property
    def coming(self) -> Bools:
        """Slots whose instance serves, or will when it has booted."""
        mask: Bools = (self.state == SlotState.UP) | (self.state == SlotState.BOOTING)
        return mask

    @property
    def off(self) -> Bools:
        """Slots in which an instance can be started."""
        mask: Bools = self.state == SlotState.OFF
        return mask
