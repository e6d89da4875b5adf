"""The requests in flight as columns, for those who look at all of them: observers and rectifiers."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, overload

import numpy as np

from gsim.core import ActiveRequests, Predictor, Request
from gsim.core.answers import all_tokens_of
from gsim.core.view import Bools, Floats, Ints
from gsim.gateway.active import Active
from gsim.gateway.backend import Backend

#: What is written each time that a request is sent or taken from an instance; the last three change in between.
_FIELDS = (
    *(("request_id", "q"), ("instance", "q"), ("prompt_tokens", "q"), ("generated_before", "q"), ("moves", "q")),
    *(("previous", "q"), ("arrival_s", "d"), ("dispatched_s", "d"), ("deadline_s", "d"), ("moved_s", "d")),
    *(("predicted_tokens", "d"), ("tokens", "q"), ("decoding", "q"), ("seen", "q")),
)
_ROW: Final = struct.Struct("=" + "".join(code for _, code in _FIELDS))
_ROW_BYTES: Final = _ROW.size
#: What a stream count writes of a row.
_COUNT: Final = struct.Struct("=qq")
_ROW_TYPE: Final = np.dtype([(name, {"q": np.int64, "d": np.float64}[code]) for name, code in _FIELDS])
_COUNT_AT: Final = struct.calcsize("=" + "".join(code for _, code in _FIELDS[:-3]))


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
        self._packed = bytearray(capacity * _ROW_BYTES)
        self._records = np.frombuffer(self._packed, dtype=_ROW_TYPE)
        """The rows as they were written: one call writes a row, and one takes out those that somebody looks at."""
        self._used, self._moving = _flags(capacity), _flags(capacity)
        self._clocks, self._followed_s = np.zeros(0, dtype=np.int64), 0.0
        """As they were when somebody last looked, and when that was."""
        self._last: ActiveRequests | None = None

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
        packed = self._packed
        for index, backend in enumerate(backends):
            clock, changed = backend.streams(now_s)
            clocks.append(clock)
            for _, count, decodes, active in changed:
                # Others have ended or left since: nobody counts their tokens here any more.
                if type(active) is Active and active.instance == index and active.slot >= 0:
                    _COUNT.pack_into(packed, active.slot * _ROW_BYTES + _COUNT_AT, count, decodes)
        self._last = None
        self._followed_s = now_s
        self._clocks = np.array(clocks, dtype=np.int64)
        return self._clocks

    def last(self, predictor: Predictor | None) -> ActiveRequests:
        """``snapshot`` as of the last ``follow``, less who has ended since: the same object until the next ``follow``.

        Asks no backend, so it may be called in the middle of a decision.
        """
        if self._last is None:
            self._last = self.snapshot(self._clocks, predictor)
        return self._last

    def streamed(self, clocks: Ints) -> tuple[Ints, Ints]:
        """Per instance: how many requests streamed ever since the last call, and how many tokens they streamed."""
        slots = self._used.nonzero()[0]
        rows = self._records.take(slots)
        here, before = rows["instance"], rows["seen"]
        now = rows["tokens"] + rows["decoding"] * clocks[here]
        self._records["seen"][slots] = now
        steady = (before > 0).nonzero()[0]
        here = here[steady]
        requests = np.bincount(here, minlength=len(clocks))
        grown = np.bincount(here, weights=(now - before)[steady], minlength=len(clocks))
        return requests, grown.astype(np.int64)

    def snapshot(self, clocks: Ints, predictor: Predictor | None) -> ActiveRequests:
        """The columns now (``clocks``: see ``follow``), read-only; ``predictor`` re-predicts each row (None: NaN)."""
        slots = self._used.nonzero()[0]
        rows = self._records.take(slots)
        # Several policies look at the same columns; each column of the rows is as read-only as the rows are.
        rows.flags.writeable = False
        request_id, instance, first = rows["request_id"], rows["instance"], rows["predicted_tokens"]
        generated = rows["tokens"] + rows["decoding"] * clocks[instance] + rows["generated_before"]
        generated.flags.writeable = False
        predicted = _repredicted(predictor, _Requests(self._rows, slots), request_id, generated, first)
        moving = self._moving[slots]
        moving.flags.writeable = False
        return ActiveRequests(
            request_id=request_id,
            instance=instance,
            prompt_tokens=rows["prompt_tokens"],
            generated_tokens=generated,
            predicted_tokens=predicted,
            arrival_s=rows["arrival_s"],
            dispatched_s=rows["dispatched_s"],
            deadline_s=rows["deadline_s"],
            moves=rows["moves"],
            moving=moving,
            previous=rows["previous"],
            moved_s=rows["moved_s"],
            observed_s=self._followed_s,
        )

    def _write(self) -> None:
        """Write the rows of who is new or has left an instance, and is not over by now."""
        packed = self._packed
        for active in self._unwritten:
            slot = active.slot
            if slot < 0:
                continue
            request = active.origin.request
            _ROW.pack_into(
                packed,
                slot * _ROW_BYTES,
                active.request_id,
                active.sent_to,
                request.prompt_tokens,
                active.generated_before,
                active.migrations,
                active.previous,
                request.arrival_s,
                active.dispatched_s,
                request.deadline_s,
                active.moved_s,
                active.predicted_tokens,
                0,
                0,
                0,
            )
            self._moving[slot] = active.moving
            self._used[slot] = True
        self._unwritten = []

    def _grow(self) -> None:
        old = len(self._rows)
        self._rows += [None] * old
        self._free += range(2 * old - 1, old - 1, -1)
        self._packed = self._packed + bytearray(old * _ROW_BYTES)
        self._records = np.frombuffer(self._packed, dtype=_ROW_TYPE)
        self._used = np.concatenate((self._used, _flags(old)))
        self._moving = np.concatenate((self._moving, _flags(old)))


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
        return _read_only(np.full(len(first), np.nan))
    asked: Any = predictor
    # By name: asking a Protocol costs more than the answer, once per review.
    if hasattr(predictor, "repredict"):
        answer: object = asked.repredict(requests, generated, first)
    else:
        answer = [asked.predict(r, g) for r, g in zip(requests, generated.tolist(), strict=True)]
    return _read_only(all_tokens_of(answer, request_ids, predictor))


def _read_only(column: Floats) -> Floats:
    """The same numbers, not to be written (an array that a predictor answered stays its own)."""
    seen = column.view()
    seen.flags.writeable = False
    return seen
