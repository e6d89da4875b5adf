"""Requests, jobs, content, streams, registry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsim.core import ConfigError, Job, Request, Streams, block_hashes, build, entries, lookup, register, shared_tokens
from gsim.core.batch import Batch, Chunk

segments = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 50)), max_size=6).map(tuple)


def tokens_of(content: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    return [(segment, k) for segment, n in content for k in range(n)]


@given(segments, segments, st.integers(1, 17))
def test_equal_block_hashes_mean_equal_prefixes(left, right, block):
    hashes_l, hashes_r = block_hashes(left, block), block_hashes(right, block)
    tokens_l, tokens_r = tokens_of(left), tokens_of(right)
    assert len(hashes_l) == len(tokens_l) // block
    for i, (a, b) in enumerate(zip(hashes_l, hashes_r, strict=False)):
        assert (a == b) == (tokens_l[: (i + 1) * block] == tokens_r[: (i + 1) * block])


@given(segments, segments, st.integers(1, 17))
def test_block_hashes_continue_from_a_parent(first, second, block):
    whole = block_hashes(first + second, block)
    known = block_hashes(first, block)
    rest = block_hashes(first + second, block, parent=known[-1] if known else 0, skip=len(known) * block)
    assert known + rest == whole


@given(segments, segments)
def test_shared_tokens_never_claims_more_than_the_token_streams_share(left, right):
    shared = shared_tokens(left, right)
    assert tokens_of(left)[:shared] == tokens_of(right)[:shared]


def test_a_resumed_job_keeps_the_total_of_its_tokens():
    job = Job(Request(7, 1.0, 100, 512, 6.0, content=((3, 100),)), 40, output_segment=9)
    resumed = job.resumed(15)
    assert resumed.request.prompt_tokens == 115
    assert resumed.output_tokens == 25
    assert resumed.request.max_output_tokens == 497
    assert resumed.request.content == ((3, 100), (9, 15))
    assert resumed.request.deadline_s == job.request.deadline_s == 7.0
    assert job.resumed(0) is job
    with pytest.raises(ValueError, match="generated_tokens"):
        job.resumed(40)


def test_streams_are_independent_by_name_and_equal_by_seed():
    a, b = Streams(3).stream("arrivals"), Streams(3).stream("arrivals")
    assert np.array_equal(a.random(5), b.random(5))
    assert not np.array_equal(Streams(3).stream("lengths").random(5), Streams(3).stream("arrivals").random(5))
    with pytest.raises(ConfigError, match="seed must be 0 or more, not -1"):
        Streams(-1)


def test_registry_builds_by_name_and_says_what_there_is():
    @register("test_group", "one")
    @dataclass(frozen=True)
    class One:
        """The first."""

        weight: float = 1.0

    assert list(entries("test_group")) == ["one"]
    assert build("test_group", "one", weight=2.0) == One(2.0)
    assert lookup("test_group", "one").summary == "The first."
    with pytest.raises(ConfigError, match="unknown test_group 'two'; there are: one"):
        lookup("test_group", "two")
    with pytest.raises(ConfigError, match="test_group has no field 'wait'; its fields are: weight"):
        build("test_group", "one", wait=1)

    @dataclass(frozen=True)
    class Other:
        pass

    with pytest.raises(ConfigError, match="registered twice"):
        register("test_group", "one")(Other)
    with pytest.raises(ConfigError, match="must be a dataclass"):
        register("test_group", "three")(object)


def test_a_batch_counts_its_tokens_and_sequences():
    batch = Batch((Chunk(100, 0), Chunk(30, 512)), 5, 4000)
    assert (batch.tokens, batch.sequences) == (135, 7)
