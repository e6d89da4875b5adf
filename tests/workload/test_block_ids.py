"""Block ids as they are read: runs of consecutive ids are one piece, and prompts share what they shared before."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsim.core import Content, shared_tokens
from gsim.workload.formats.history import block_content

RECORDED = (
    Path(__file__).resolve().parents[2].parent / "shared" / "data" / "traces" / "mooncake_conversation_2000.jsonl.gz"
)

ids = st.lists(st.integers(0, 6), min_size=1, max_size=8)


def block_by_block(blocks: list[int], tokens: int, size: int) -> Content:
    """A piece for every block."""
    return tuple((block, min(size, tokens - size * i)) for i, block in enumerate(blocks))


@given(ids, ids, st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_runs_of_ids_share_what_blocks_share(left, right, last_l, last_r, forked):
    size = 4
    if forked:
        right = [*left[: len(right)], *right]
    tokens_l, tokens_r = size * (len(left) - 1) + last_l, size * (len(right) - 1) + last_r
    runs = [block_content(left, tokens_l, size), block_content(right, tokens_r, size)]
    blocks = [block_by_block(left, tokens_l, size), block_by_block(right, tokens_r, size)]
    assert [sum(tokens for _, tokens in content) for content in runs] == [tokens_l, tokens_r]
    assert shared_tokens(*runs) == shared_tokens(*blocks)
    assert all(len(run) <= len(block) for run, block in zip(runs, blocks, strict=True))


def test_ids_that_count_up_are_one_piece_and_names_are_asked_once_a_run():
    assert block_content([7, 8, 9, 3, 4, 9], 6 * 16 - 5, 16, lambda block: 100 + block) == (
        (107, 48),
        (103, 32),
        (109, 11),
    )


def test_the_recorded_conversations_share_what_they_shared():
    if not RECORDED.is_file():
        pytest.skip("../shared/data/traces is not there")
    with gzip.open(RECORDED, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    runs = [block_content(row["hash_ids"], row["input_length"], 512) for row in rows]
    blocks = [block_by_block(row["hash_ids"], row["input_length"], 512) for row in rows]
    # 27.3 blocks a prompt are 2.4 pieces.
    assert sum(map(len, runs)) < 0.1 * sum(map(len, blocks))
    for i in range(0, len(rows), 7):
        for j in range(i + 1, min(i + 300, len(rows)), 3):
            assert shared_tokens(runs[i], runs[j]) == shared_tokens(blocks[i], blocks[j])
