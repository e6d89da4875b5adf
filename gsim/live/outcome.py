"""What a client sees of its request."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from math import isnan, nan

from gsim.core import Status
from gsim.live.pace import Pace
from gsim.live.silence import Silence
from gsim.live.sse import DONE, Events


@dataclass
class Outcome:
    """What a client saw of one request; times are those of its clock, NaN where a thing did not happen."""

    request_id: int
    arrival_s: float
    slo_s: float
    first_token_s: float = nan
    finished_s: float = nan
    output_tokens: int = 0
    """As the server counts them, at the end."""
    status: Status = Status.FAILED
    error: str = ""
    output_ids: list[int] = field(default_factory=list, repr=False)


class Hearing:
    """Listens to a stream for an outcome."""

    def __init__(self, outcome: Outcome, pace: Pace, silence: Silence, with_ids: bool) -> None:
        self._outcome = outcome
        self._pace = pace
        self._silence = silence
        self._with_ids = with_ids
        """Token ids are wanted, so every event is read; else only those that may end the answer."""
        self._events = Events()
        self._counted = False

    def take(self, data: bytes) -> None:
        """Some of the stream; raises ``ValueError`` for an error in it, or what is no event of an answer."""
        self._silence.heard()
        for event in self._events.feed(data):
            self._event(event)

    def close(self) -> None:
        """The stream has ended; raises ``ValueError`` where it is not whole."""
        if not self._counted:
            raise ValueError("the stream ended without its usage")
        if isnan(self._outcome.finished_s):
            self._outcome.finished_s = self._pace.now_s()

    def _event(self, event: bytes) -> None:
        outcome = self._outcome
        if event == DONE:
            outcome.finished_s = self._pace.now_s()
            return
        if isnan(outcome.first_token_s):
            outcome.first_token_s = self._pace.now_s()
        if not (self._with_ids or b'"usage":{' in event or b'"error"' in event):
            return
        values = json.loads(event)
        if "error" in values:
            raise ValueError(str(values["error"])[:200])
        for choice in values["choices"]:
            outcome.output_ids += choice.get("token_ids") or ()
        usage = values.get("usage")
        if usage:
            outcome.output_tokens = int(usage["completion_tokens"])
            self._counted = True
