"""A streamed answer on its way: chunks when they are due, at once where the client keeps up."""

from __future__ import annotations

from gsim.emulate.answer import Answer, Writer
from gsim.emulate.faults import Faulty
from gsim.live.outlet import Outlet
from gsim.live.vocabulary import Vocabulary


class AnswerStream:
    """What one request's client gets, whoever writes it: its coroutine, or whoever has new tokens."""

    def __init__(self, outlet: Outlet, writer: Writer, vocabulary: Vocabulary, faults: Faulty, interval: int) -> None:
        self.outlet = outlet
        self._writer = writer
        self._vocabulary = vocabulary
        self._faults = faults
        self._interval = interval

    def take(self, answer: Answer) -> bytes:
        """The chunk of an answer that is due; none while it has fewer new tokens than the client wants at a time."""
        fresh = answer.tokens - answer.sent
        if answer.done:
            # Its reason is told with the last tokens, even where they are none.
            return self._chunk(answer)
        return self._chunk(answer) if fresh >= self._interval or (fresh and not answer.sent) else b""

    def send_on(self, answer: Answer) -> None:
        """Send what was generated, or leave it to the coroutine: a client that is slow, a fault."""
        if self._faults.holds_back or not self.outlet.free:
            answer.waiter.wake()
        elif answer.tokens - answer.sent >= self._interval:
            self.outlet.send(self._chunk(answer))

    def _chunk(self, answer: Answer) -> bytes:
        # One write, and so one packet where the client keeps up; where it does not, the next chunk is larger.
        head = b"" if answer.sent else self._writer.opening(answer)
        ids, text = answer.take(self._vocabulary)
        return head + self._writer.chunk(answer, ids, text)
