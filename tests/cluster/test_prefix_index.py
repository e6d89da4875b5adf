"""The gateway's prefix index by runs gives the answers of the index by blocks, whatever is sent where."""

from __future__ import annotations

import numpy as np
import pytest
from block_index import BlockIndex
from hypothesis import given, settings
from hypothesis import strategies as st

from gsim.core import Request
from gsim.core.content import block_hashes, head
from gsim.gateway.prefix_index import PrefixIndex

pieces = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 30)), max_size=5)


def request(number: int, content) -> Request:
    return Request(number, 0.0, sum(tokens for _, tokens in content), 10, 1.0, content=tuple(content))


def order(index: PrefixIndex, instance: int, size: int) -> list[int]:
    """The blocks of an instance, least recently sent first, by the names that the index by blocks gives them."""
    names: list[int] = []
    for run in index._sent[instance]:
        node = run.node
        hashed = block_hashes(head(node.pieces, node.end * size), size)
        names += reversed(hashed[node.start : run.end])
    return names


@given(
    st.lists(st.tuples(pieces, st.integers(0, 2), st.integers(0, 8), st.integers(0, 60)), max_size=40),
    st.sampled_from([1, 4, 16]),
    st.sampled_from([4, 40, 400]),
)
@settings(max_examples=120, deadline=None)
def test_it_is_the_index_by_blocks(steps, size, capacity):
    capacities = np.array([capacity, 2 * capacity, 3 * capacity])
    by_run, by_block = PrefixIndex(capacities, size), BlockIndex(capacities, size)
    told: list[tuple] = [()]
    for number, (content, instance, what, cut) in enumerate(steps):
        earlier = told[cut % len(told)]
        # New, an earlier one cut short, an earlier one continued, or the two behind one another.
        content = tuple(content) if what < 3 else head(earlier, cut) if what < 5 else (*earlier, *content)
        told.append(content)
        asked = request(number, content)
        np.testing.assert_array_equal(by_run.match(asked), by_block.match(asked))
        if what == 8:
            by_run.clear(instance)
            by_block.clear(instance)
        else:
            by_run.insert(asked, instance)
            by_block.insert(asked, instance)
        for i in range(3):
            assert order(by_run, i, size) == list(by_block._held[i])
            assert by_run._sent[i].blocks == len(by_block._held[i])
    for i in range(3):
        by_run.clear(i)
    assert not by_run._tree.root.children


@pytest.mark.parametrize("size", [1, 16, 512])
def test_a_session_on_one_instance_is_one_run(size):
    index = PrefixIndex(np.array([100_000]), size)
    content: tuple = ((1, 1024),)
    for turn in range(20):
        index.insert(request(turn, content), 0)
        content = (*content, (10 + turn, 300))
        assert len(list(index._sent[0])) == 1
    assert index.match(request(99, content)).tolist() == [sum(n for _, n in content[:-1]) // size * size]
