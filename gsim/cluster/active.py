"""The requests in flight: one object each, and the columns that a rectifier reviews."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import nan
from typing import TYPE_CHECKING, overload

import numpy as np

from gsim.core import ActiveRequests, BatchPredictor, Job, Predictor, Request
from gsim.core.view import Floats, Ints

if TYPE_CHECKING:
    from gsim.cluster.move_log import Move


class Active:
    """One request from its arrival to its end, as the gateway keeps it."""

    __slots__ = (
        "cached_tokens",
        "charged_tokens",
        "dispatched_s",
        "first_token_s",
        "generated_before",
        "held",
        "instance",
        "instance_first_token_s",
        "job",
        "migrations",
        "move",
        "moved_from",
        "moving",
        "origin",
        "predicted_tokens",
        "preemptions",
        "recomputed_tokens",
        "slot",
    )

    def __init__(self, job: Job) -> None:
        self.origin = job
        """As it arrived."""
        self.job = job
        """As it is on its instance (after a move: with the generated tokens in its prompt)."""
        self.instance = -1
        self.dispatched_s = nan
        """When it was last sent to an instance."""
        self.first_token_s = nan
        """When the client saw the first token."""
        self.instance_first_token_s = nan
        """First token from the present instance."""
        self.generated_before = 0
        """Tokens from earlier instances."""
        self.predicted_tokens = nan
        self.charged_tokens = 0.0
        """What it added to ``in_flight_tokens``."""
        self.cached_tokens = 0
        self.recomputed_tokens = 0
        """Tokens that were computed again because the request moved or its instance crashed."""
        self.preemptions = 0
        self.migrations = 0
        self.moved_from = -1
        """The instance that it was on before its last move."""
        self.move: Move | None = None
        """Its last move, until it has shown a token at the target."""
        self.moving = False
        self.held = False
        self.slot = -1


class ActiveTable:
    """Columns over the requests on instances, kept in slots: a row is written at dispatch, not at every review."""

    def __init__(self, capacity: int = 1024) -> None:
        self._rows: list[Active | None] = [None] * capacity
        self._free = list(range(capacity - 1, -1, -1))
        self._ints = np.zeros((6, capacity), dtype=np.int64)
        self._floats = np.zeros((5, capacity))
        self._bools = np.zeros((2, capacity), dtype=np.bool_)
        self._slot_of = np.full(capacity, -1, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows) - len(self._free)

    def add(self, active: Active, now_s: float) -> None:
        """Write the row of a request that was just dispatched (again)."""
        if active.slot < 0:
            if not self._free:
                self._grow()
            active.slot = self._free.pop()
            self._rows[active.slot] = active
        slot = active.slot
        request = active.origin.request
        request_id = request.request_id
        if request_id >= len(self._slot_of):
            self._slot_of = np.concatenate([self._slot_of, np.full(request_id + 1, -1, dtype=np.int64)])
        previous = self._ints[1, slot] if self._bools[0, slot] else -1
        moved = previous >= 0 and active.migrations > 0
        self._slot_of[request_id] = slot
        self._ints[:, slot] = (
            request_id,
            active.instance,
            request.prompt_tokens,
            active.migrations,
            previous if moved else -1,
            active.generated_before,
        )
        self._floats[:, slot] = (
            request.arrival_s,
            now_s,
            request.deadline_s,
            now_s if moved else -np.inf,
            active.predicted_tokens,
        )
        self._bools[0, slot] = True

    def remove(self, active: Active) -> None:
        """The request ended."""
        slot = active.slot
        if slot < 0:
            return
        self._bools[:, slot] = False
        self._rows[slot] = None
        self._slot_of[active.origin.request.request_id] = -1
        self._free.append(slot)
        active.slot = -1

    def set_moving(self, active: Active, moving: bool) -> None:
        """A migration of the request began or ended."""
        active.moving = moving
        if active.slot >= 0:
            self._bools[1, active.slot] = moving

    def snapshot(self, progress: list[tuple[list[int], list[int]]], predictor: Predictor | None) -> ActiveRequests:
        """The columns now. ``progress``: ids and streamed tokens per instance; ``predictor`` re-predicts each row."""
        slots = np.flatnonzero(self._bools[0])
        generated = np.zeros(len(self._rows), dtype=np.int64)
        for ids, tokens in progress:
            if ids:
                generated[self._slot_of[ids]] = tokens
        request_id, instance, prompt, moves, previous, before = self._ints[:, slots]
        arrival, dispatched, deadline, moved, first = self._floats[:, slots]
        total = generated[slots] + before
        return ActiveRequests(
            request_id=request_id,
            instance=instance,
            prompt_tokens=prompt,
            generated_tokens=total,
            predicted_tokens=_repredicted(predictor, _Requests(self._rows, slots), total, first),
            arrival_s=arrival,
            dispatched_s=dispatched,
            deadline_s=deadline,
            moves=moves,
            moving=self._bools[1, slots],
            previous=previous,
            moved_s=moved,
        )

    def _grow(self) -> None:
        old = len(self._rows)
        self._rows += [None] * old
        self._free += range(2 * old - 1, old - 1, -1)
        self._ints = np.concatenate([self._ints, np.zeros_like(self._ints)], axis=1)
        self._floats = np.concatenate([self._floats, np.zeros_like(self._floats)], axis=1)
        self._bools = np.concatenate([self._bools, np.zeros_like(self._bools)], axis=1)


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


def _repredicted(predictor: Predictor | None, requests: Sequence[Request], generated: Ints, first: Floats) -> Floats:
    if predictor is None:
        return first
    if isinstance(predictor, BatchPredictor):
        return np.asarray(predictor.repredict(requests, generated, first), dtype=np.float64)
    totals = [predictor.predict(r, g) for r, g in zip(requests, generated.tolist(), strict=True)]
    return np.array(totals, dtype=np.float64)
