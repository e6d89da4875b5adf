"""What a gateway sends requests to: one instance, be it a simulated engine or a server."""

from __future__ import annotations

from collections.abc import Callable

from mypy_extensions import mypyc_attr

from gsim.core import EngineEvent, Gauges, Job, Progress, StreamCount

#: Tells the gateway what happened on the instance of this index: first token, finish, preemption, refusal.
Report = Callable[[int, EngineEvent], None]


# A protocol would do, but calls through one are looked up by name; a server's backend need not be compiled.
@mypyc_attr(allow_interpreted_subclasses=True)
class Backend:
    """One instance, as a gateway knows it: a base class, all of whose methods are to be written.

    (``prefill`` and ``release`` only where instances have roles.)

    A backend is made by a ``MakeBackend``, which hands it the gateway's ``Report``. It reports every event of a request
    with the ``ticket`` that came with it, in time order, and nothing of a request that was aborted or forgotten. Times
    are the gateway's clock's, simulated or real.
    """

    def send(self, job: Job, now_s: float, kv_tokens: int, ticket: object) -> None:
        """A request comes here. ``kv_tokens``: leading tokens whose KV was copied here; ``ticket``: see above.

        Of the job a server's backend uses the request; the true output length is known in simulation only.
        """
        raise NotImplementedError

    def prefill(self, job: Job, now_s: float, ticket: object) -> None:
        """A request comes here for its prompt and its first token (``PREFILLED``); its KV cache stays for others."""
        raise NotImplementedError

    def release(self, request_id: int, now_s: float) -> None:
        """Nobody needs the KV cache of a prefilled request any more. The gateway calls ``sync`` first."""
        raise NotImplementedError

    def abort(self, request_id: int, now_s: float) -> Progress:
        """Take a request out; what it has generated here. The gateway calls ``sync`` first.

        Also asked for every request of an instance that has crashed, before ``forget``: what a client had seen of it.
        """
        raise NotImplementedError

    def sync(self, now_s: float) -> None:
        """Report everything that has happened up to ``now_s`` and was not reported yet."""
        raise NotImplementedError

    def forget(self, now_s: float) -> None:
        """The instance has lost everything that was sent to it (it crashed)."""
        raise NotImplementedError

    def gauges(self, now_s: float) -> Gauges | None:
        """What the instance's metrics say now; None where they cannot be read."""
        raise NotImplementedError

    def progress(self, now_s: float) -> tuple[list[int], list[int]]:
        """Request ids here, and the output tokens that each has streamed."""
        raise NotImplementedError

    def streams(self, now_s: float) -> tuple[int, list[StreamCount]]:
        """A decode clock, and the stream counts whose rule changed since the last call (see ``StreamCount``).

        Who counts every token by itself (a server's backend) answers 0 and every count that changed.
        """
        raise NotImplementedError

    def can_leave(self, request_id: int) -> bool:
        """Whether a request that is here may go on elsewhere by what the gateway has of it (an engine: always)."""
        return True

    def tells_cached(self) -> bool:
        """Whether its first tokens say how much of a prompt was cached (an engine's do)."""
        return True


#: Makes the backend of the instance of this index.
MakeBackend = Callable[[int, Report], Backend]
