"""Migrations in simulated time: the state of a request goes from one instance to another, by the mechanism's steps.

A request is on its source until the last step, on no instance while the last of its state is on the wire, then on its
target. Whatever ends a move early leaves the request where it is or sends it back through the router by its token ids,
which the gateway has: it is never lost and never in two places.
"""

from __future__ import annotations

from collections.abc import Sequence

from gsim.core import Migration, Outcome
from gsim.gateway.active import Active
from gsim.gateway.clock import Steps
from gsim.gateway.gateway import Gateway
from gsim.gateway.move_log import COUNTERS, Move
from gsim.gateway.moving.links import LinkNetwork
from gsim.migration import Mechanism, Step
from gsim.migration.mechanism import blocks_of
from gsim.migration.token_ids import TokenIds


class Moves:
    """Carries out migrations."""

    def __init__(
        self,
        gateway: Gateway,
        mechanism: Mechanism,
        network: LinkNetwork,
        kv_bytes_per_token: Sequence[int],
        longest_tokens: Sequence[int],
    ) -> None:
        self.log: list[Move] = []
        self._gateway = gateway
        self._mechanism = mechanism
        self._network = network
        self._kv_bytes_per_token = kv_bytes_per_token
        self._owner: dict[int, Move] = {}
        self._lives = [0] * len(gateway.backends)
        """How often each instance has crashed: what was copied to or from an earlier life is lost."""
        self._static = gateway.view.static
        self._longest = longest_tokens

    def start(self, migration: Migration) -> None:
        """Begin to carry out a migration (it is refused, and logged, where it makes no sense by now)."""
        gateway = self._gateway
        active = gateway.active.get(migration.request_id)
        source = active.instance if active is not None else -1
        move = Move(migration.request_id, source, migration.target, gateway.clock.now)
        self.log.append(move)
        mechanism = self._mechanism_for(source, migration.target)
        if active is None or active.moving or mechanism is None or not self._may(active, migration.target):
            move.outcome = Outcome.REFUSED
            gateway.counters[COUNTERS[move.outcome]] += 1
            return
        move.carries_kv = mechanism.carries_kv
        self._owner[move.request_id] = move
        self._gateway.set_moving(active, True)
        gateway.clock.start(self._run(active, move, mechanism))

    def close(self) -> None:
        """The run is over, and every request has ended: so have the moves that were still under way."""
        for move in self.log:
            if move.outcome is Outcome.UNDER_WAY:
                move.outcome = Outcome.ENDED
                self._gateway.counters["moves_ended"] += 1

    def crashed(self, instance: int) -> None:
        """An instance went down: its transfers end, and what it held of moving requests is lost."""
        self._lives[instance] += 1
        self._network.cut(instance)

    # ------------------------------------------------------------------------------------------------- may it move
    def _mechanism_for(self, source: int, target: int) -> Mechanism | None:
        """How to move from ``source`` to ``target``; None if not at all."""
        static = self._static
        if source < 0 or source == target or static.model[source] != static.model[target]:
            return None
        if self._mechanism.carries_kv and static.layout[source] != static.layout[target]:
            return TokenIds() if self._mechanism.fallback == "token_ids" else None
        return self._mechanism

    def _may(self, active: Active, target: int) -> bool:
        """Whether the source lets the request go, and the target takes it."""
        return self._gateway.backends[active.instance].can_leave(active.request_id) and self._takes(active, target)

    def _takes(self, active: Active, target: int) -> bool:
        """Whether the target is up and could run the request as far as its source could."""
        if not self._gateway.legs.decode[target]:
            return False
        request = active.origin.request
        longest = request.prompt_tokens + request.max_output_tokens
        return min(longest, self._longest[active.instance]) <= self._longest[target]

    def _has_room(self, target: int, tokens: int) -> bool:
        return tokens <= float(self._static.kv_capacity_tokens[target]) * (1.0 - self._kv_usage(target))

    def _kv_usage(self, instance: int) -> float:
        """The share of KV in use, as read now; where it cannot be read, as it was scraped last."""
        gauges = self._gateway.backends[instance].gauges(self._gateway.clock.now)
        return gauges.kv_usage if gauges is not None else float(self._gateway.view.kv_usage[instance])

    # -------------------------------------------------------------------------------------------------- carry out
    def _run(self, active: Active, move: Move, mechanism: Mechanism) -> Steps[None]:
        copied = yield from self._copy_live(active, move, mechanism)
        if copied is not None:
            # A source that drains has to stay until the last copy has arrived.
            gateway = self._gateway
            gateway.drains.copying(move.source)
            yield from self._stop_and_move(active, move, mechanism, copied)
            gateway.drains.copied(move.source)
        if self._owner.get(move.request_id) is move:
            del self._owner[move.request_id]
            self._gateway.set_moving(active, False)
        self._gateway.counters[COUNTERS[move.outcome]] += 1
        if move.outcome is Outcome.MOVED and move.back:
            self._gateway.counters["moves_back"] += 1

    def _copy_live(self, active: Active, move: Move, mechanism: Mechanism) -> Steps[int | None]:
        """The stages during which the request runs on. Tokens copied; None if the move is over."""
        block = self._static.block_size
        copied = 0
        target_life = self._lives[move.target]
        while True:
            tokens = self._kv_tokens(active) if mechanism.carries_kv else 0
            step = mechanism.step(move.stages, blocks_of(max(tokens - copied, 0), block))
            if tokens and not self._has_room(move.target, tokens + 1):
                step = Step.GIVE_UP
            if step is Step.GIVE_UP:
                move.outcome = Outcome.GIVEN_UP
                return None
            if step is Step.LAST:
                return copied
            # Complete blocks only: the one being written moves with a later stage.
            fresh = max(tokens // block * block - copied, 0)
            arrived = yield from self._transfer(move, mechanism, fresh)
            if not self._is_at_source(active, move):
                move.outcome = Outcome.ENDED
                return None
            if not arrived or self._lives[move.target] != target_life:
                move.outcome = Outcome.GIVEN_UP
                return None
            copied += fresh

    def _stop_and_move(self, active: Active, move: Move, mechanism: Mechanism, copied: int) -> Steps[None]:
        gateway = self._gateway
        lives = self._lives[move.source], self._lives[move.target]
        progress = gateway.detach(active)
        if progress is None:
            move.outcome = Outcome.ENDED
            return
        move.stopped_s = gateway.clock.now
        request = active.job.request
        move.context_tokens = request.prompt_tokens
        # The newest token has been sampled, not computed (the iteration that was to compute it is lost).
        computed = min(progress.computed_tokens, request.prompt_tokens - 1)
        carried = max(computed, copied) if mechanism.carries_kv else 0
        # By token ids the whole context is on the wire, four bytes a token; by KV copy what the stages have left.
        rest = carried - copied if mechanism.carries_kv else request.prompt_tokens
        arrived = yield from self._transfer(move, mechanism, rest)
        # Token ids come from the gateway: all they need is a target. A copy is lost with either end.
        arrived &= lives == (self._lives[move.source], self._lives[move.target])
        arrived |= not mechanism.carries_kv
        if gateway.active.get(move.request_id) is not active:
            # It was withdrawn while it was on no instance.
            move.outcome = Outcome.ENDED
            return
        if arrived and gateway.view.available[move.target]:
            move.computed_tokens = computed - min(carried, computed)
            self._arrive(active, move, carried)
        else:
            move.computed_tokens = computed
            move.outcome = Outcome.FELL_BACK
            self._release(active, move)
            gateway.place(active)

    def _arrive(self, active: Active, move: Move, kv_tokens: int) -> None:
        gateway = self._gateway
        move.submitted_s = gateway.clock.now
        move.outcome = Outcome.MOVED
        move.back = active.moved_from == move.target
        active.moved_from = move.source
        active.migrations += 1
        active.move = move
        self._release(active, move)
        gateway.dispatch(active, move.target, kv_tokens)

    def _transfer(self, move: Move, mechanism: Mechanism, tokens: int) -> Steps[bool]:
        """One stage: control messages and descriptors, then the bytes."""
        gateway = self._gateway
        overhead_s = mechanism.overhead_s(blocks_of(tokens, self._static.block_size))
        if overhead_s > 0:
            yield overhead_s
        available = gateway.view.available
        # One that drains gets nothing more, and can still be copied from.
        source_is_up = available[move.source] or move.source in gateway.drains.instances
        if not (source_is_up or not mechanism.carries_kv) or not available[move.target]:
            return False
        size_bytes = mechanism.state_bytes(tokens, self._kv_bytes_per_token[move.source])
        move.copied_bytes += size_bytes
        move.stages += 1
        if not mechanism.carries_kv:
            yield from self._network.message(size_bytes)
            return True
        load = max(self._kv_usage(move.source), self._kv_usage(move.target))
        return (yield from self._network.transfer(move.source, move.target, size_bytes, load))

    # ------------------------------------------------------------------------------------------------------- state
    def _kv_tokens(self, active: Active) -> int:
        """Tokens of the request whose KV is complete on its instance (0 before its first token there)."""
        ids, tokens = self._gateway.backends[active.instance].progress(self._gateway.clock.now)
        request = active.job.request
        here = dict(zip(ids, tokens, strict=True)).get(request.request_id, 0)
        # The newest token has been sampled, not computed.
        return request.prompt_tokens + here - 1 if here else 0

    def _is_at_source(self, active: Active, move: Move) -> bool:
        gateway = self._gateway
        return (
            gateway.active.get(move.request_id) is active
            and self._owner.get(move.request_id) is move
            and active.moving
            and active.instance == move.source
        )

    def _release(self, active: Active, move: Move) -> None:
        if self._owner.pop(move.request_id, None) is move:
            self._gateway.set_moving(active, False)
