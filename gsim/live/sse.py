"""Server-sent events, as they come off the wire."""

from __future__ import annotations

#: No event is longer than this, in bytes: what is, is no answer of such a server.
MAX_EVENT = 16 << 20
DONE = b"[DONE]"


class EventError(ValueError):
    """What comes is no stream of events."""


class Events:
    """Takes bytes as they arrive and gives the ``data`` of every event that is complete."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that are complete by now, in order; raises ``EventError``."""
        if not self._rest and data.startswith(b"data: ") and data.find(b"\n\n") == len(data) - 2 and b"\r" not in data:
            # Most often it is one event, whole.
            return [data[6:-2]]
        if self._rest:
            data = self._rest + data
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        *whole, self._rest = data.split(b"\n\n")
        if len(self._rest) > MAX_EVENT:
            raise EventError(f"an event of more than {MAX_EVENT} bytes")
        found = []
        for event in whole:
            if event.startswith(b"data: "):
                found.append(event[6:])
            elif event.startswith(b"data:"):
                found.append(event[5:])
        return found
