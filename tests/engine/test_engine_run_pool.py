"""The pool of runs is the pool of blocks: the same names, copies, holders and order, whatever is done to both."""

from __future__ import annotations

import gc
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pool_cases import admit, check_tree, nodes_of, sequence

from gsim.core.content import block_hashes, head
from gsim.engine.kv.block_pool import BlockPool
from gsim.engine.kv.run_pool import RunPool
from gsim.engine.sequence import OwnBlocks

pieces = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30)), min_size=1, max_size=5)


def names_of(node, size):
    """The names of a node's blocks, as the reference hashes them."""
    return block_hashes(head(node.pieces, node.end * size), size)[node.start :]


def copies(pool):
    """Per name, how many hold each copy of it, the oldest copy first."""
    if isinstance(pool, BlockPool):
        return {name: [block.refs for block in blocks] for name, blocks in pool.cached.items()}
    found = {}
    for node in nodes_of(pool):
        for i, name in enumerate(names_of(node, pool.block_size)):
            assert name not in found
            found[name] = [run.refs for run in node.runs if run.blocks > i]
    return found


def order(pool):
    """The LRU order, block by block; nameless blocks by their number."""
    listed = []
    for entry in pool.idle:
        if isinstance(entry, OwnBlocks):
            listed.append((entry.blocks, entry.hittable))
        elif isinstance(pool, BlockPool):
            listed.append(entry.name)
        else:
            listed += reversed(names_of(entry.node, pool.block_size)[: entry.blocks])
    return listed


class Twins(RuleBasedStateMachine):
    """Two pools of either kind that are treated alike."""

    @initialize(size=st.sampled_from([1, 2, 4, 16]), blocks=st.sampled_from([6, 12, 30, 80]))
    def start(self, size, blocks):
        self.size = size
        self.pools = (BlockPool(blocks, size, True), RunPool(blocks, size, True))
        self.waiting = []
        self.running = []
        self.told = []
        self.number = 0

    def both(self, ask):
        """The same question to both; the answer, which must be the same."""
        by_block, by_run = (ask(i, pool) for i, pool in enumerate(self.pools))
        assert by_block == by_run
        return by_block

    @rule(content=pieces, output=st.sampled_from([-1, 0, 1, 5]))
    def submit_new(self, content, output):
        self._submit(tuple(content), output)

    @precondition(lambda self: self.told)
    @rule(data=st.data(), tokens=st.integers(1, 40), more=pieces, forks=st.booleans())
    def submit_related(self, data, tokens, more, forks):
        """An earlier prompt again, cut short, continued, or with its output quoted."""
        content, output = data.draw(st.sampled_from(self.told))
        if output >= 0 and data.draw(st.booleans()):
            content = (*content, (output, tokens))
        elif forks:
            content = head(content, tokens)
        if data.draw(st.booleans()):
            content = (*content, *more)
        self._submit(content, data.draw(st.sampled_from([-1, output])))

    @rule(tokens=st.integers(1, 40))
    def submit_nameless(self, tokens):
        self._submit((), -1, tokens)

    def _submit(self, content, output, tokens=0):
        if content:
            self.told.append((content, output))
        made = [sequence(pool, self.number, tokens, content, output) for pool in self.pools]
        self.number += 1
        self.waiting.append(made)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), budget=st.integers(1, 60))
    def admit_one(self, data, budget):
        """As the scheduler admits: a chunk behind what is cached."""
        pair = data.draw(st.sampled_from(self.waiting))
        matches = [pool.match(one) for pool, one in zip(self.pools, pair, strict=True)]
        hit = self.both(lambda i, pool: matches[i].blocks or pool.own_hit(pair[i]))
        held = self.both(lambda i, pool: pool.held_among(matches[i]))
        length = pair[0].length
        if -(-length // self.size) - held > self.pools[0].free:
            return
        end = min(length, hit * self.size + budget)
        for pool, one, match in zip(self.pools, pair, matches, strict=True):
            pool.admit(one, match, end)
            one.computed = end
        self.waiting.remove(pair)
        self.running.append(pair)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), tokens=st.integers(1, 40))
    def compute(self, data, tokens):
        """The rest of a prompt, or generated text, as far as there are blocks."""
        pair = data.draw(st.sampled_from(self.running))
        end = pair[0].computed + tokens
        if self.both(lambda i, pool: pool.blocks_short(pair[i], end)):
            return
        for pool, one in zip(self.pools, pair, strict=True):
            pool.grow(one, end)
            one.computed = end
            one.generated = max(one.generated, end - one.prompt)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), preempted=st.booleans())
    def release(self, data, preempted):
        pair = data.draw(st.sampled_from(self.running))
        self.running.remove(pair)
        for pool, one in zip(self.pools, pair, strict=True):
            pool.release(one, keep_own=preempted)
            one.computed = 0
        if preempted:
            self.waiting.append(pair)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data):
        pair = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(pair)
        for pool, one in zip(self.pools, pair, strict=True):
            pool.disown(one)

    @invariant()
    def alike(self):
        if not hasattr(self, "pools"):
            return
        self.both(lambda i, pool: (pool.free, pool._blank, pool.shared, pool.has_idle))
        self.both(lambda i, pool: copies(pool))
        self.both(lambda i, pool: order(pool))
        check_tree(self.pools[1])

    def teardown(self):
        for pair in getattr(self, "running", ()):
            for pool, one in zip(self.pools, pair, strict=True):
                pool.release(one)
        if hasattr(self, "pools"):
            assert self.both(lambda i, pool: pool.free) == self.pools[0].total
            self.alike()


Twins.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTwins = Twins.TestCase


def test_a_freed_run_is_one_entry_whose_end_moves_down():
    pool = RunPool(8, 4, True)
    made, _ = admit(pool, 0, ((1, 20), (2, 12)))
    pool.release(made)
    (entry,) = pool.idle
    assert entry.blocks == 8
    pool.take(3)
    assert list(pool.idle) == [entry]
    assert entry.blocks == 5
    assert pool.match(sequence(pool, 1, 0, ((1, 20), (2, 12)))).blocks == 5


def test_a_fork_inside_a_block_shares_the_blocks_before_it():
    pool = RunPool(20, 4, True)
    left, _ = admit(pool, 0, ((1, 18), (2, 10)))
    right, hit = admit(pool, 1, ((1, 18), (3, 10)))
    assert (hit, pool.shared) == (4, 4)
    assert [(node.start, node.end) for node in nodes_of(pool)] == [(0, 4), (4, 7), (4, 7)]
    pool.release(left)
    pool.release(right)
    # The fork was cut while it was held: its head is freed apart from its tail, and last.
    assert [entry.blocks for entry in pool.idle] == [3, 3, 4]


@pytest.mark.parametrize("size", [1, 16, 512])
def test_a_session_stays_one_run_for_all_its_turns(size):
    pool = RunPool(40_000 // size, size, True)
    content = ((1, 700),)
    for turn in range(20):
        made, hit = admit(pool, turn, content)
        # All that came before but the KV of the last generated token, which was never computed.
        assert hit == (sum(tokens for _, tokens in content[:-1]) - (turn > 0)) // size
        made.generated = 100
        pool.grow(made, made.prompt + 99)
        made.computed = made.prompt + 99
        pool.release(made)
        content = (*content, (-2 - turn, 100), (100 + turn, 300))
        assert len(list(nodes_of(pool))) == 1


def test_what_is_evicted_is_freed_by_its_reference_counts():
    """A run of the simulator lets the cycle collector rest: nodes and runs must not live on in cycles."""
    rng = random.Random(0)
    pool = RunPool(200, 4, True)
    gc.collect()
    gc.disable()
    try:
        for number in range(600):
            shared = rng.choice([((1, 50),), ((1, 50), (2, 21)), ((3, rng.randint(1, 90)),)])
            made, _ = admit(pool, number, (*shared, (100 + number, rng.randint(1, 60))))
            pool.release(made)
        alive = len(list(nodes_of(pool)))
        assert gc.collect() < 20
    finally:
        gc.enable()
    assert alive < 200
