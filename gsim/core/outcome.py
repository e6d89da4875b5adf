"""How requests and migrations end: the codes in a run's records, and their names."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """How a request ended. Every request ends exactly once."""

    FINISHED = 0
    REJECTED = 1
    """Refused by the router or by an engine that could never run it."""
    FAILED = 2
    """Lost with its instance, or never sent because a request that it depends on was lost or refused."""
    CUT = 3
    """The run stopped before it had ended, or (of a counted session) before it had even arrived."""


class Outcome(IntEnum):
    """How a migration ended."""

    MOVED = 0
    REFUSED = 1
    """It never began: the request had ended or was moving, the target was down, or could not take it."""
    GIVEN_UP = 2
    """The mechanism gave up, or the target had no room: the request stayed at its source."""
    ENDED = 3
    """The request ended, or was taken from its source by other hands, before its state had moved."""
    FELL_BACK = 4
    """An end died with the state on the wire: the request went back through the router by its token ids."""
    UNDER_WAY = 5
    """Not over yet (never in a run's result)."""
