"""KV blocks, in both kinds of pool: LRU with tails first, duplicates, blank blocks before cached ones, the books."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pool_cases import POOLS, admit, sequence

both = pytest.mark.parametrize("kind", POOLS)


def hits(pool, number, content):
    """How many blocks a prompt would hit."""
    return pool.match(sequence(pool, number, 0, content)).blocks


@both
def test_cached_blocks_count_as_free_and_are_hit(kind):
    pool = kind(10, 4, caching=True)
    first, hit = admit(pool, 0, ((1, 12),))
    assert (hit, pool.free) == (0, 7)
    pool.release(first)
    assert pool.free == 10
    # The last token must be computed: of a prompt that is cached to its end, the last block is computed again.
    _, hit = admit(pool, 1, ((1, 12),))
    assert (hit, pool.free) == (2, 7)


@both
def test_tails_are_evicted_before_heads_and_old_before_young(kind):
    pool = kind(6, 4, caching=True)
    old, _ = admit(pool, 0, ((1, 12),))
    young, _ = admit(pool, 1, ((2, 12),))
    pool.release(old)
    pool.release(young)
    pool.take(2)
    assert hits(pool, 2, ((1, 12), (9, 1))) == 1
    assert hits(pool, 3, ((2, 12), (9, 1))) == 3


@both
def test_blank_blocks_are_taken_before_cached_ones(kind):
    pool = kind(6, 4, caching=True)
    cached, _ = admit(pool, 0, ((1, 12),))
    blank, _ = admit(pool, 1, tokens=3)
    pool.release(cached)
    pool.release(blank)
    pool.take(3)
    assert hits(pool, 2, ((1, 12), (9, 1))) == 3


@both
def test_two_blocks_of_one_name_are_both_held_and_the_older_is_hit(kind):
    pool = kind(12, 4, caching=True)
    left, right = sequence(pool, 0, 0, ((1, 8),)), sequence(pool, 1, 0, ((1, 8),))
    # Both were looked up before either was computed.
    nothing = pool.match(right)
    pool.admit(left, pool.match(left), 4)
    assert pool.match(right).blocks == 1
    pool.admit(right, nothing, 8)
    pool.grow(left, 8)
    assert pool.free == 8
    left.computed = right.computed = 8
    # Of two names the first block is left's and the second right's: whoever hits both shares with both.
    third, hit = admit(pool, 2, ((1, 8), (9, 1)))
    assert (hit, pool.shared, pool.free) == (2, 2, 7)
    pool.release(left)
    assert (pool.shared, pool.free) == (1, 8)
    pool.release(right)
    assert (pool.shared, pool.free) == (0, 9)
    pool.release(third)
    assert pool.free == 12


@both
def test_shared_blocks_are_held_until_the_last_holder_goes(kind):
    pool = kind(10, 4, caching=True)
    first, _ = admit(pool, 0, ((1, 8), (2, 4)))
    second, hit = admit(pool, 1, ((1, 8), (3, 4)))
    assert (hit, pool.free, pool.shared) == (2, 6, 2)
    pool.release(first)
    assert (pool.free, pool.shared) == (7, 0)
    pool.release(second)
    assert pool.free == 10


@both
def test_without_caching_nothing_is_hit(kind):
    pool = kind(10, 4, caching=False)
    first, _ = admit(pool, 0, ((1, 12),))
    pool.release(first)
    assert admit(pool, 1, ((1, 12),))[1] == 0
    assert pool.idle.oldest is None


@both
def test_a_preempted_sequence_without_names_finds_what_is_left_of_it(kind):
    pool = kind(8, 4, caching=True)
    mine, _ = admit(pool, 0, tokens=22)
    pool.release(mine, keep_own=True)
    assert pool.free == 8
    pool.take(5)
    # Two blank blocks went first, and the one that was not full; then its tail.
    assert pool.own_hit(mine) == 3
    pool.disown(mine)
    assert pool.own_hit(mine) == 0
    pool.take(3)
    assert pool.free == 0


@both
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30), st.booleans()), max_size=40), st.booleans())
def test_the_books_balance(kind, steps, caching):
    """Free and held blocks (each once, however many hold it) always add up to the pool."""
    pool = kind(64, 4, caching=caching)
    held = []
    for number, (segment, tokens, named) in enumerate(steps):
        new = sequence(pool, number, tokens, ((segment, tokens),) if named else ())
        match = pool.match(new)
        if -(-tokens // 4) > pool.free or len(held) > 5:
            if held:
                pool.release(held.pop(0))
            continue
        pool.admit(new, match, tokens)
        new.computed = tokens
        held.append(new)
        assert pool.free + sum(one.blocks for one in held) - pool.shared == pool.total
        assert pool.free >= 0
    for one in held:
        pool.release(one)
    assert pool.free == pool.total
    assert pool.shared == 0
