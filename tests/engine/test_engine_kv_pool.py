"""KV blocks: LRU with tails first, duplicates, blank blocks before cached ones, and the books always balanced."""

from __future__ import annotations

from engine_cases import job, limits
from hypothesis import given
from hypothesis import strategies as st

from gsim.engine.kv_pool import KvPool
from gsim.engine.sequence import make_sequence


def sequence(number, tokens, content=(), size=4):
    prompt = sum(n for _, n in content) or tokens
    made = make_sequence(job(number, 0.0, prompt, 100, content=content), number, 0.0, 0, limits(block_size=size))
    assert made is not None
    return made


def admit(pool, number, content=(), tokens=0):
    made = sequence(number, tokens, content)
    hits = pool.match(made)
    count = len(hits)
    pool.admit(made, hits, made.prompt)
    made.computed = made.prompt
    return made, count


def test_cached_blocks_count_as_free_and_are_hit():
    pool = KvPool(10, 4, caching=True)
    first, hits = admit(pool, 0, ((1, 12),))
    assert (hits, pool.free) == (0, 7)
    pool.release(first)
    assert pool.free == 10
    # The last token must be computed: of a prompt that is cached to its end, the last block is computed again.
    _, hits = admit(pool, 1, ((1, 12),))
    assert (hits, pool.free) == (2, 7)


def test_tails_are_evicted_before_heads_and_old_before_young():
    pool = KvPool(6, 4, caching=True)
    old, _ = admit(pool, 0, ((1, 12),))
    young, _ = admit(pool, 1, ((2, 12),))
    pool.release(old)
    pool.release(young)
    pool.take(2)
    assert len(pool.match(sequence(2, 0, ((1, 12), (9, 1))))) == 1
    assert len(pool.match(sequence(3, 0, ((2, 12), (9, 1))))) == 3


def test_blank_blocks_are_taken_before_cached_ones():
    pool = KvPool(6, 4, caching=True)
    cached, _ = admit(pool, 0, ((1, 12),))
    blank, _ = admit(pool, 1, tokens=3)
    pool.release(cached)
    pool.release(blank)
    pool.take(3)
    assert len(pool.match(sequence(2, 0, ((1, 12), (9, 1))))) == 3


def test_two_blocks_of_one_name_are_both_held_and_the_older_is_hit():
    pool = KvPool(12, 4, caching=True)
    left, right = sequence(0, 0, ((1, 8),)), sequence(1, 0, ((1, 8),))
    # Both were looked up before either was computed.
    pool.admit(left, pool.match(left), 4)
    hits = pool.match(right)
    pool.admit(right, [], 8)
    pool.grow(left, 8)
    assert hits == left.cached[:1]
    assert pool.free == 8
    assert pool.match(sequence(2, 0, ((1, 8), (9, 1))))[0] is left.cached[0]
    left.computed = right.computed = 8
    pool.release(left)
    pool.release(right)
    assert pool.free == 12


def test_shared_blocks_are_held_until_the_last_holder_goes():
    pool = KvPool(10, 4, caching=True)
    first, _ = admit(pool, 0, ((1, 8), (2, 4)))
    second, hits = admit(pool, 1, ((1, 8), (3, 4)))
    assert (hits, pool.free, pool.shared) == (2, 6, 2)
    pool.release(first)
    assert (pool.free, pool.shared) == (7, 0)
    pool.release(second)
    assert pool.free == 10


def test_without_caching_nothing_is_hit():
    pool = KvPool(10, 4, caching=False)
    first, _ = admit(pool, 0, ((1, 12),))
    pool.release(first)
    assert admit(pool, 1, ((1, 12),))[1] == 0
    assert not pool.idle


def test_a_preempted_sequence_without_names_finds_what_is_left_of_it():
    pool = KvPool(8, 4, caching=True)
    mine, _ = admit(pool, 0, tokens=22)
    pool.release(mine, keep_run=True)
    assert pool.free == 8
    pool.take(5)
    # Two blank blocks went first, and the one that was not full; then its tail.
    assert pool.run_hit(mine) == 3
    pool.disown(mine)
    assert pool.run_hit(mine) == 0
    pool.take(3)
    assert pool.free == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30), st.booleans()), max_size=40), st.booleans())
def test_the_books_balance(steps, caching):
    """Free and held blocks (each once, however many hold it) always add up to the pool."""
    pool = KvPool(64, 4, caching=caching)
    held = []
    for number, (segment, tokens, named) in enumerate(steps):
        new = sequence(number, tokens, ((segment, tokens),) if named else ())
        hits = pool.match(new)
        if -(-tokens // 4) > pool.free or len(held) > 5:
            if held:
                pool.release(held.pop(0))
            continue
        pool.admit(new, hits, tokens)
        new.computed = tokens
        held.append(new)
        assert pool.free + sum(one.blocks for one in held) - pool.shared == pool.total
        assert pool.free >= 0
    for one in held:
        pool.release(one)
    assert pool.free == pool.total
    assert pool.shared == 0
