"""Who follows requests from outside of a gateway."""

from __future__ import annotations

from collections.abc import Callable

from gsim.core import Job, Status

OnEnd = Callable[[Job, Status, float], None]
OnDispatch = Callable[[Job, float], None]


class Ends:
    """Who is told when a request is first sent to an instance, and when it has ended (with its job as it arrived)."""

    def __init__(self, dispatched: OnDispatch, ended: OnEnd) -> None:
        self.dispatched = dispatched
        self.ended = ended
