"""KV in host memory: what falls there, what comes back and at which price, by blocks and by runs alike."""

from __future__ import annotations

import dataclasses

import pytest
from engine_cases import AffineTime, any_latency, any_limits, drain, job, limits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from test_engine_equivalence import Pair, play

from gsim.core import ConfigError, EventKind
from gsim.core.content import block_hashes, head
from gsim.engine import EngineConfig
from gsim.engine.decode_clock import DecodeClockEngine
from gsim.engine.host_kv import HostKvConfig, HostKvLimits
from gsim.engine.kv.host_blocks import HostBlocks
from gsim.engine.kv.host_runs import HostRuns
from gsim.engine.stepwise import StepwiseEngine
from gsim.latency import constant_profile

ENGINES = [StepwiseEngine, DecodeClockEngine]


def host(blocks: int, block_s: float = 0.001, layerwise: bool = False) -> HostKvLimits:
    return HostKvLimits(blocks, 1000, block_s, layerwise)


def nodes_of(tier: HostRuns):
    pending = list(tier.root.children.values())
    while pending:
        node = pending.pop()
        yield node
        pending += node.children.values()


def listed(tier: HostRuns, size: int) -> list[int]:
    """The names in host memory, least recently used first."""
    names = []
    for stretch in tier.lru:
        node = stretch.node
        names += reversed(block_hashes(head(node.pieces, node.end * size), size)[node.start :])
    return names


class Tiers(RuleBasedStateMachine):
    """A tier by blocks and one by runs, which are treated alike."""

    @initialize(size=st.sampled_from([1, 2, 4]), blocks=st.sampled_from([1, 3, 8, 30, 1000]))
    def start(self, size, blocks):
        self.size = size
        self.by_block = HostBlocks(host(blocks))
        self.by_run = HostRuns(host(blocks), size)
        self.prompts = []

    @rule(pieces=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12)), min_size=1, max_size=4))
    def new_prompt(self, pieces):
        self.prompts.append(tuple(pieces))

    @precondition(lambda self: self.prompts)
    @rule(data=st.data(), more=st.tuples(st.integers(0, 5), st.integers(1, 12)), keep=st.integers(1, 30))
    def related_prompt(self, data, more, keep):
        """An earlier one cut short, and continued."""
        self.prompts.append((*head(data.draw(st.sampled_from(self.prompts)), keep), more))

    def _some(self, data):
        pieces = data.draw(st.sampled_from(self.prompts))
        blocks = sum(tokens for _, tokens in pieces) // self.size
        first = data.draw(st.integers(0, blocks))
        return pieces, first, data.draw(st.integers(first, blocks))

    @precondition(lambda self: self.prompts)
    @rule(data=st.data())
    def fall(self, data):
        pieces, first, end = self._some(data)
        for name in reversed(block_hashes(pieces, self.size)[first:end]):
            self.by_block.fall(name)
        self.by_run.fall(pieces, first, end)

    @precondition(lambda self: self.prompts)
    @rule(data=st.data())
    def come_back(self, data):
        pieces, first, end = self._some(data)
        names = block_hashes(pieces, self.size)[first:end]
        found = self.by_block.match(names)
        assert self.by_run.match(pieces, first, end) == found
        self.by_block.bring_back(names[:found])
        self.by_run.bring_back(pieces, first, first + found)

    @invariant()
    def alike(self):
        if not hasattr(self, "size"):
            return
        tier = self.by_run
        assert listed(tier, self.size) == list(self.by_block.names)
        assert (tier.fallen, tier.brought_back) == (self.by_block.fallen, self.by_block.brought_back)
        assert tier.held == len(self.by_block.names) <= tier.capacity
        for node in nodes_of(tier):
            assert node.parent.children[node.key] is node
            assert node.start == node.parent.end < node.end
            assert node.stretch is not None or node.children
            assert node.stretch is None or (node.stretch.node, node.stretch.blocks) == (node, node.end - node.start)


TestTiers = Tiers.TestCase
TestTiers.settings = settings(max_examples=80, stateful_step_count=40)


@given(
    seed=st.integers(0, 2**32),
    latency=any_latency(),
    bounds=any_limits(),
    blocks=st.sampled_from([1, 5, 30, 1000]),
    layerwise=st.booleans(),
)
@settings(max_examples=120)
def test_both_engines_agree(seed, latency, bounds, blocks, layerwise):
    bounds = dataclasses.replace(bounds, prefix_caching=True, host_kv=host(blocks, 0.004, layerwise))
    pair = play(seed, latency, bounds)
    reference, fast = pair.engines
    assert reference.counts() == fast.counts()
    assert listed(fast.clocked.pool.host, bounds.block_size) == list(reference.pool.host.names)


def test_random_lives_come_back_from_the_host():
    """The property above is worth something only if blocks do come back, also behind blocks of the card."""
    bounds = limits(block_size=4, kv_blocks=30, max_model_len=110, host_kv=host(200))
    counts = [play(seed, AffineTime(), bounds).engines[1].counts() for seed in range(12)]
    assert sum(count["host_hit_tokens"] > 0 for count in counts) >= 3
    assert all(count["host_out_bytes"] > 0 for count in counts if count["host_hit_tokens"])


def turns(engine, tool_s: float = 1.0):
    """A prompt of 32 blocks, others that push it out, and the same prompt with more behind it; events of the last."""
    engine.submit(job(0, 0.0, 512, 1, content=((1, 512),)), 0.0)
    drain(engine)
    for number in (1, 2, 3):
        engine.submit(job(number, tool_s, 300, 1, content=((10 + number, 300),)), tool_s)
        drain(engine)
    engine.submit(job(9, 100.0, 640, 1, content=((1, 512), (2, 128))), 100.0)
    return drain(engine)


@pytest.mark.parametrize("engine_type", ENGINES)
def test_what_comes_back_is_not_computed_but_waited_for(engine_type):
    """The last prompt's first token comes when its rest is computed and its copy made, in turn or together."""
    latency = AffineTime(0.01, 1e-4, 0.0, 0.0)
    ample = {"kv_blocks": 42, "max_num_batched_tokens": 1024, "max_model_len": 672}
    first = {}
    for name, tier in {
        "none": None,
        "sum": host(100, 0.003),
        "longer": host(100, 0.003, layerwise=True),
        "too small": host(10, 0.003),
    }.items():
        engine = engine_type(latency, limits(**ample, host_kv=tier))
        token = next(event for event in turns(engine) if event.kind is EventKind.FIRST_TOKEN)
        first[name] = (token.time_s - 100.0, token.cached_tokens)
        counts = engine.counts()
        hits = counts.get("host_hit_tokens", 0)
        assert hits <= token.cached_tokens
        assert counts.get("host_in_bytes", 0) == hits // 16 * 1000
    card, cached = first["none"]
    assert cached < 512
    # 1 e-4 s for each token that is still computed, 3 ms for each block of 16 that is copied.
    copied = 512 - cached
    rest_s = 0.01 + 1e-4 * (640 - 512)
    assert card == pytest.approx(rest_s + 1e-4 * copied)
    assert first["sum"] == (pytest.approx(rest_s + 0.003 * copied / 16), 512)
    assert first["longer"] == (pytest.approx(max(rest_s, 0.003 * copied / 16)), 512)
    # The head was used last, the tail first: of a run that does not fit, what is kept is its head ...
    assert first["too small"][1] == cached
    # ... and a copy that is slower than computing is a loss, which must show.
    assert first["sum"][0] > card


@pytest.mark.parametrize("engine_type", ENGINES)
def test_a_copy_stays_in_host_memory(engine_type):
    """Evicted a second time, a block that had come back moves no bytes."""
    engine = engine_type(AffineTime(), limits(kv_blocks=42, max_model_len=672, host_kv=host(1000)))
    turns(engine)
    out = engine.counts()["host_out_bytes"]
    engine.submit(job(20, 200.0, 660, 1, content=((20, 660),)), 200.0)
    drain(engine)
    # New are only the 8 blocks that the last prompt had behind the first one, and others that were on the card.
    assert engine.counts()["host_out_bytes"] - out <= 42 * 1000 - 32 * 1000


def test_prompts_that_share_nothing_fill_it_too():
    """They are evicted as all others are, so they cost others their place in host memory."""
    pair = Pair(AffineTime(), limits(kv_blocks=40, host_kv=host(1000)))
    for number in range(8):
        pair.both("submit", job(number, 1.0 * number, 300, 4), 1.0 * number)
        pair.run_until(1.0 * number + 0.9)
    for engine in pair.engines:
        drain(engine)
    assert pair.engines[0].counts() == pair.engines[1].counts()
    assert pair.engines[1].counts()["host_out_bytes"] > 100 * 1000


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layerwise": True}, "engine.host_kv.layerwise says nothing while size_gb is 0"),
        ({"size_gb": 1.0, "blocks": 3}, "engine.host_kv: give size_gb or blocks, not both"),
        ({"size_gb": -1.0}, r"engine.host_kv.size_gb must be a number from 0 \(none\) to 1e\+06, not -1.0"),
        ({"blocks": -1}, r"engine.host_kv.blocks must be from 0 \(none\) to 1000000000, not -1"),
        (
            {"size_gb": 1.0, "link_gb_per_s": float("inf")},
            "engine.host_kv.link_gb_per_s must be a finite number above 0",
        ),
    ],
)
def test_bad_input_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        HostKvConfig(**fields)


def test_limits_follow_from_the_profile():
    profile = constant_profile(0.01)
    block_bytes = profile.deployment.kv_bytes_per_token * 16
    made = EngineConfig(host_kv=HostKvConfig(size_gb=2.0, link_gb_per_s=12.0)).resolve(profile).host_kv
    assert made == HostKvLimits(int(2e9 // block_bytes), block_bytes, block_bytes / 12e9, False)
    with pytest.raises(ConfigError, match="size_gb of 1e-06 holds no block of 0.0021 GB"):
        EngineConfig(host_kv=HostKvConfig(size_gb=1e-6)).resolve(profile)
    with pytest.raises(ConfigError, match="engine.host_kv keeps what prefix_caching found"):
        EngineConfig(prefix_caching=False, host_kv=HostKvConfig(blocks=3)).resolve(profile)
