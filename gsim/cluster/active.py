"""The requests in flight: one object each, and the columns that observers and rectifiers read."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from math import inf, nan
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from gsim.core import ActiveRequests, BatchPredictor, Job, Predictor, Request
from gsim.core.view import Floats, Ints

if TYPE_CHECKING:
    from gsim.cluster.instance import Instance
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
        "prompt_tokens",
        "recomputed_tokens",
        "request_id",
        "slot",
    )

    def __init__(self, job: Job) -> None:
        self.origin = job
        """As it arrived."""
        self.job = job
        """As it is on its instance (after a move: with the generated tokens in its prompt)."""
        self.request_id = job.request.request_id
        self.prompt_tokens = job.request.prompt_tokens
        """As it is on its instance."""
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

    def resume(self, generated_tokens: int) -> None:
        """It has left its instance, where it had generated so many tokens: they go into its prompt."""
        self.generated_before += generated_tokens
        self.job = self.job.resumed(generated_tokens)
        self.prompt_tokens = self.job.request.prompt_tokens
        self.instance = -1


_INTS = ("request_id", "instance", "prompt_tokens", "moves", "previous", "generated_before", "tokens", "seen")
_FLOATS = ("arrival_s", "dispatched_s", "deadline_s", "moved_s", "predicted_tokens")
_FLAGS = ("used", "moving", "decoding")


class ActiveTable:
    """Columns over the requests on instances, kept in slots: a row is written at dispatch, not when somebody looks.

    What a request has streamed follows from its count (``StreamCount``) and its instance's decode clock: reading all of
    them costs one number per instance, and what changed.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self._rows: list[Active | None] = [None] * capacity
        self._free = list(range(capacity - 1, -1, -1))
        # Single values are written far more often than columns are read: array.array is quick at the one, and NumPy
        # reads its memory in place for the other.
        self._ints = [array("q", bytes(8 * capacity)) for _ in _INTS]
        self._floats = [array("d", bytes(8 * capacity)) for _ in _FLOATS]
        self._flags = [array("b", bytes(capacity)) for _ in _FLAGS]
        _, self._instance, *_, self._before, self._tokens, self._seen = self._ints
        self._used, self._moving, self._decoding = self._flags

    def __len__(self) -> int:
        return len(self._rows) - len(self._free)

    def add(self, active: Active, now_s: float) -> None:
        """Write the row of a request that was just dispatched (again)."""
        request_id, instance, prompt, moves, previous, before, tokens, seen = self._ints
        arrival, dispatched, deadline, moved, predicted = self._floats
        slot = active.slot
        came_from = -1
        if slot < 0:
            if not self._free:
                self._grow()
            active.slot = slot = self._free.pop()
            self._rows[slot] = active
        elif active.migrations > 0:
            came_from = instance[slot]
        request = active.origin.request
        request_id[slot] = request.request_id
        instance[slot] = active.instance
        prompt[slot] = request.prompt_tokens
        moves[slot] = active.migrations
        previous[slot] = came_from
        before[slot] = active.generated_before
        tokens[slot] = seen[slot] = 0
        arrival[slot] = request.arrival_s
        dispatched[slot] = now_s
        deadline[slot] = request.deadline_s
        moved[slot] = now_s if came_from >= 0 else -inf
        predicted[slot] = active.predicted_tokens
        self._used[slot] = 1
        self._decoding[slot] = 0

    def detach(self, active: Active) -> None:
        """The request is on no instance for now."""
        slot = active.slot
        if slot >= 0:
            self._before[slot] = active.generated_before
            self._tokens[slot] = self._seen[slot] = self._decoding[slot] = 0

    def remove(self, active: Active) -> None:
        """The request ended."""
        slot = active.slot
        if slot < 0:
            return
        for flags in self._flags:
            flags[slot] = 0
        self._rows[slot] = None
        self._free.append(slot)
        active.slot = -1

    def set_moving(self, active: Active, moving: bool) -> None:
        """A migration of the request began or ended."""
        active.moving = moving
        if active.slot >= 0:
            self._moving[active.slot] = moving

    def follow(self, instances: Sequence[Instance], known: dict[int, Active], now_s: float) -> Ints:
        """Take in which counts changed on every instance; the instances' decode clocks at ``now_s``."""
        clocks = np.zeros(len(instances), dtype=np.int64)
        for index, instance in enumerate(instances):
            clocks[index], changed = instance.streams(now_s)
            for count in changed:
                active = known.get(count.request_id)
                # Others have ended or left since: nobody counts their tokens here any more.
                if active is not None and active.instance == index and active.slot >= 0:
                    self._tokens[active.slot] = count.tokens
                    self._decoding[active.slot] = count.decoding
        return clocks

    def streamed(self, clocks: Ints) -> tuple[Ints, Ints]:
        """Per instance: how many requests streamed ever since the last call, and how many tokens they streamed."""
        slots = np.flatnonzero(_whole(self._used))
        seen = _whole(self._seen)
        here = _whole(self._instance)[slots]
        now = _whole(self._tokens)[slots] + _whole(self._decoding)[slots] * clocks[here]
        before = seen[slots]
        seen[slots] = now
        steady = before > 0
        requests = np.bincount(here[steady], minlength=len(clocks))
        grown = np.bincount(here[steady], weights=(now - before)[steady], minlength=len(clocks))
        return requests, grown.astype(np.int64)

    def snapshot(self, clocks: Ints, predictor: Predictor | None) -> ActiveRequests:
        """The columns now (``clocks``: see ``follow``); ``predictor`` re-predicts each row."""
        slots = np.flatnonzero(_whole(self._used))
        ints = {name: _whole(column)[slots] for name, column in zip(_INTS, self._ints)}
        floats = {name: _whole(column)[slots] for name, column in zip(_FLOATS, self._floats)}
        generated = ints["tokens"] + _whole(self._decoding)[slots] * clocks[ints["instance"]] + ints["generated_before"]
        first = floats["predicted_tokens"]
        return ActiveRequests(
            request_id=ints["request_id"],
            instance=ints["instance"],
            prompt_tokens=ints["prompt_tokens"],
            generated_tokens=generated,
            predicted_tokens=_repredicted(predictor, _Requests(self._rows, slots), generated, first),
            arrival_s=floats["arrival_s"],
            dispatched_s=floats["dispatched_s"],
            deadline_s=floats["deadline_s"],
            moves=ints["moves"],
            moving=_whole(self._moving)[slots].astype(np.bool_),
            previous=ints["previous"],
            moved_s=floats["moved_s"],
        )

    def _grow(self) -> None:
        old = len(self._rows)
        self._rows += [None] * old
        self._free += range(2 * old - 1, old - 1, -1)
        columns: list[array[Any]] = [*self._ints, *self._floats, *self._flags]
        for column in columns:
            column.frombytes(bytes(column.itemsize * old))


def _whole(column: array[int] | array[float]) -> NDArray[Any]:
    """A column as NumPy sees it, without a copy; not to be kept: a column that is looked at cannot grow."""
    return np.frombuffer(column, dtype=column.typecode)


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
