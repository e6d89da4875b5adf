"""The requests in flight as columns, for those who look at all of them: observers and rectifiers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from gsim.core import ActiveRequests, Predictor, Request
from gsim.core.answers import all_tokens_of, title
from gsim.core.view import Bools, Floats, Ints
from gsim.gateway.active import Active
from gsim.gateway.backend import Backend

_COLUMNS = (
    *("_request_id", "_instance", "_prompt", "_before", "_moves", "_previous", "_tokens", "_seen"),
    *("_arrival_s", "_dispatched_s", "_deadline_s", "_moved_s", "_predicted"),
    *("_used", "_moving", "_decoding"),
)


class ActiveTable:
    """Columns over the requests on instances, a slot each.

    A row is written when somebody looks, with all others that are new by then. What a request has streamed follows from
    its count (``StreamCount``) and its instance's decode clock: reading all of them costs one number per instance, and
    what changed.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self._rows: list[Active | None] = [None] * capacity
        self._free = list(range(capacity - 1, -1, -1))
        self._unwritten: list[Active] = []
        """Who was sent or taken from an instance since somebody looked."""
        self._request_id, self._instance = _ints(capacity), _ints(capacity)
        self._prompt, self._before = _ints(capacity), _ints(capacity)
        self._moves, self._previous = _ints(capacity), _ints(capacity)
        self._tokens, self._seen = _ints(capacity), _ints(capacity)
        self._arrival_s, self._dispatched_s, self._deadline_s = _floats(capacity), _floats(capacity), _floats(capacity)
        self._moved_s, self._predicted = _floats(capacity), _floats(capacity)
        self._used, self._moving, self._decoding = _flags(capacity), _flags(capacity), _flags(capacity)

    def __len__(self) -> int:
        return len(self._rows) - len(self._free)

    def add(self, active: Active, now_s: float) -> None:
        """A request was just dispatched (again)."""
        if active.slot < 0:
            if not self._free:
                self._grow()
            active.slot = self._free.pop()
            self._rows[active.slot] = active
        elif active.migrations > 0:
            active.previous = active.sent_to
            active.moved_s = now_s
        active.sent_to = active.instance
        self._unwritten.append(active)

    def detach(self, active: Active) -> None:
        """The request is on no instance for now."""
        if active.slot >= 0:
            self._unwritten.append(active)

    def remove(self, active: Active) -> None:
        """The request ended."""
        slot = active.slot
        if slot < 0:
            return
        self._used[slot] = False
        self._rows[slot] = None
        self._free.append(slot)
        active.slot = -1

    def set_moving(self, active: Active, moving: bool) -> None:
        """A migration of the request began or ended."""
        active.moving = moving
        if active.slot >= 0:
            self._moving[active.slot] = moving

    def follow(self, backends: Sequence[Backend], now_s: float) -> Ints:
        """Take in what is new and which counts changed on every instance; the instances' decode clocks at ``now_s``."""
        self._write()
        clocks: list[int] = []
        slots: list[int] = []
        tokens: list[int] = []
        decoding: list[bool] = []
        for index, backend in enumerate(backends):
            clock, changed = backend.streams(now_s)
            clocks.append(clock)
            for _, count, decodes, active in changed:
                # Others have ended or left since: nobody counts their tokens here any more.
                if type(active) is Active and active.instance == index and active.slot >= 0:
                    slots.append(active.slot)
                    tokens.append(count)
                    decoding.append(decodes)
        if slots:
            self._tokens[slots] = tokens
            self._decoding[slots] = decoding
        return np.array(clocks, dtype=np.int64)

    def streamed(self, clocks: Ints) -> tuple[Ints, Ints]:
        """Per instance: how many requests streamed ever since the last call, and how many tokens they streamed."""
        slots = np.flatnonzero(self._used)
        here = self._instance[slots]
        now = self._tokens[slots] + self._decoding[slots] * clocks[here]
        before = self._seen[slots]
        self._seen[slots] = now
        steady = before > 0
        requests = np.bincount(here[steady], minlength=len(clocks))
        grown = np.bincount(here[steady], weights=(now - before)[steady], minlength=len(clocks))
        return requests, grown.astype(np.int64)

    def snapshot(self, clocks: Ints, predictor: Predictor | None) -> ActiveRequests:
        """The columns now (``clocks``: see ``follow``); ``predictor`` re-predicts each row (None: NaN)."""
        slots = np.flatnonzero(self._used)
        request_id, instance = self._request_id[slots], self._instance[slots]
        generated = self._tokens[slots] + self._decoding[slots] * clocks[instance] + self._before[slots]
        first = self._predicted[slots]
        return ActiveRequests(
            request_id=request_id,
            instance=instance,
            prompt_tokens=self._prompt[slots],
            generated_tokens=generated,
            predicted_tokens=_repredicted(predictor, _Requests(self._rows, slots), request_id, generated, first),
            arrival_s=self._arrival_s[slots],
            dispatched_s=self._dispatched_s[slots],
            deadline_s=self._deadline_s[slots],
            moves=self._moves[slots],
            moving=self._moving[slots],
            previous=self._previous[slots],
            moved_s=self._moved_s[slots],
        )

    def _write(self) -> None:
        """Write the rows of who is new or has left an instance, and is not over by now."""
        rows = [active for active in self._unwritten if active.slot >= 0]
        self._unwritten = []
        if not rows:
            return
        slots = np.array([active.slot for active in rows])
        requests = [active.origin.request for active in rows]
        self._request_id[slots] = [active.request_id for active in rows]
        self._instance[slots] = [active.sent_to for active in rows]
        self._prompt[slots] = [request.prompt_tokens for request in requests]
        self._moves[slots] = [active.migrations for active in rows]
        self._previous[slots] = [active.previous for active in rows]
        self._before[slots] = [active.generated_before for active in rows]
        self._arrival_s[slots] = [request.arrival_s for request in requests]
        self._dispatched_s[slots] = [active.dispatched_s for active in rows]
        self._deadline_s[slots] = [request.deadline_s for request in requests]
        self._moved_s[slots] = [active.moved_s for active in rows]
        self._predicted[slots] = [active.predicted_tokens for active in rows]
        self._moving[slots] = [active.moving for active in rows]
        self._used[slots] = True
        self._tokens[slots] = self._seen[slots] = self._decoding[slots] = 0

    def _grow(self) -> None:
        old = len(self._rows)
        self._rows += [None] * old
        self._free += range(2 * old - 1, old - 1, -1)
        for name in _COLUMNS:
            column: NDArray[Any] = getattr(self, name)
            setattr(self, name, np.concatenate((column, np.zeros_like(column))))


def _ints(n: int) -> Ints:
    return np.zeros(n, dtype=np.int64)


def _floats(n: int) -> Floats:
    return np.zeros(n)


def _flags(n: int) -> Bools:
    return np.zeros(n, dtype=np.bool_)


class _Requests(Sequence[Request]):
    """The requests of some slots, looked up only when a predictor asks for them."""

    def __init__(self, rows: list[Active | None], slots: Ints) -> None:
        self._rows = rows
        self._slots = slots

    def __len__(self) -> int:
        return len(self._slots)

    @overload
    def __getitem__(self, index: int) -> Request: ...
    @overload
    def __getitem__(self, index: slice) -> list[Request]: ...
    def __getitem__(self, index: int | slice) -> Request | list[Request]:
        if isinstance(index, slice):
            return [self._of(slot) for slot in self._slots[index].tolist()]
        return self._of(int(self._slots[index]))

    def __iter__(self) -> Iterator[Request]:
        return (self._of(slot) for slot in self._slots.tolist())

    def _of(self, slot: int) -> Request:
        active = self._rows[slot]
        assert active is not None
        return active.origin.request


def _repredicted(
    predictor: Predictor | None, requests: Sequence[Request], request_ids: Ints, generated: Ints, first: Floats
) -> Floats:
    if predictor is None:
        return np.full(len(first), np.nan)
    asked: Any = predictor
    # By name: asking a Protocol costs more than the answer, once per review.
    if hasattr(predictor, "repredict"):
        answer: object = asked.repredict(requests, generated, first)
    else:
        answer = [asked.predict(r, g) for r, g in zip(requests, generated.tolist(), strict=True)]
    return all_tokens_of(answer, request_ids, title("predictor", predictor))
