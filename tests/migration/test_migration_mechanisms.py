"""Mechanisms and links: what a move costs, against published figures and by hand."""

import dataclasses

import numpy as np
import pytest

from gsim.core import ConfigError, build, entries
from gsim.migration import LINKS, LinkConfig, MoveCosts, Quote, Step
from gsim.migration.kv_copy import KvCopy
from gsim.migration.live_kv_copy import LiveKvCopy
from gsim.migration.token_ids import TokenIds

GB = 1e9


def quote(tokens: int = 4096, rate: float = 10 * GB, **changes: object) -> Quote:
    base = Quote(
        tokens=tokens,
        kv_bytes_per_token=131072.0,
        block_size=16,
        rate_bytes_per_s=np.array([rate]),
        latency_s=0.0,
        queue_s=np.zeros(1),
        prefill_s_per_token=np.full(1, 1e-4),
        cached_tokens=np.zeros(1),
        source_tpot_s=0.02,
    )
    return base._replace(**changes)  # type: ignore[arg-type]


def test_the_group_lists_the_three_mechanisms():
    assert set(entries("mechanism")) == {"token_ids", "kv_copy", "live_kv_copy"}


@pytest.mark.parametrize("name", ["token_ids", "kv_copy", "live_kv_copy"])
def test_every_field_of_a_mechanism_has_a_default(name):
    mechanism = build("mechanism", name)
    assert all(getattr(mechanism, field.name) is not None for field in dataclasses.fields(mechanism))


def test_token_ids_cost_the_prefill_of_what_is_not_cached():
    cost = TokenIds(control_s=0.0).estimate_s(quote(4096, rate=np.inf, cached_tokens=np.array([1096.0])))
    assert cost == pytest.approx([3000 * 1e-4])


def test_kv_copy_costs_its_bytes():
    # Llama-3.1-8B: 128 KiB a token, so 4096 tokens are 512 MiB; at 10 GB/s that is 53.7 ms.
    assert KvCopy(control_s=0.0).estimate_s(quote()) == pytest.approx([0.0536870912])


def test_kv_copy_charges_each_block():
    plain, charged = KvCopy(), KvCopy(block_s=1e-4)
    assert charged.estimate_s(quote()) - plain.estimate_s(quote()) == pytest.approx([256e-4])


def test_the_queue_at_the_target_counts_for_every_mechanism():
    for name in entries("mechanism"):
        mechanism = build("mechanism", name)
        waits = mechanism.estimate_s(quote(queue_s=np.array([3.0]))) - mechanism.estimate_s(quote())
        assert waits == pytest.approx([3.0])


def test_live_copy_stands_still_for_its_last_stage_only():
    # Llumnix reports 20 to 30 ms of downtime over 64 Gb/s, nearly the same at every length. A 7B model with full
    # attention (512 KiB a token) is within that at any length, and a last stage of the most blocks takes that long.
    link = LINKS["rdma_64g"]
    stops = [
        LiveKvCopy().estimate_s(quote(tokens, link.rate_bytes_per_s, kv_bytes_per_token=524288.0, source_tpot_s=0.03))
        for tokens in (1024, 2048, 4096)
    ]
    assert all(stop[0] < 0.030 for stop in stops)
    copies = [
        KvCopy().estimate_s(quote(tokens, link.rate_bytes_per_s, kv_bytes_per_token=524288.0))[0]
        for tokens in (1024, 4096)
    ]
    assert copies[1] > 3 * copies[0] > 3 * stops[2][0]
    full_last_stage_s = 0.002 + 16 * 16 * 524288.0 / link.rate_bytes_per_s
    assert 0.020 < full_last_stage_s < 0.030


def test_live_copy_is_infinite_where_the_state_grows_faster_than_it_is_copied():
    stop = LiveKvCopy().estimate_s(quote(8192, rate=1e6, source_tpot_s=0.001))
    assert np.isinf(stop).all()


def test_live_copy_steps():
    live = LiveKvCopy(last_stage_blocks=16, max_stages=3)
    assert live.step(0, 300) is Step.COPY
    assert live.step(1, 16) is Step.LAST
    assert live.step(2, 17) is Step.COPY
    assert live.step(3, 1) is Step.GIVE_UP


@pytest.mark.parametrize(
    ("name", "fields", "named"),
    [
        ("kv_copy", {"control_s": -1.0}, "control_s"),
        ("kv_copy", {"fallback": "pray"}, "fallback"),
        ("token_ids", {"control_s": float("nan")}, "control_s"),
        ("live_kv_copy", {"max_stages": 0}, "max_stages"),
        ("live_kv_copy", {"last_stage_blocks": 0}, "last_stage_blocks"),
    ],
)
def test_bad_fields_are_named(name, fields, named):
    with pytest.raises(ConfigError, match=named):
        build("mechanism", name, **fields)


def test_link_presets_carry_their_line_rates():
    assert {name: LINKS[name].bandwidth_bytes_per_s for name in ("rdma_10g", "rdma_100g", "rdma_400g")} == {
        "rdma_10g": 1.25 * GB,
        "rdma_100g": 12.5 * GB,
        "rdma_400g": 50 * GB,
    }
    assert [LINKS[name].rate_bytes_per_s for name in ("pcie3", "pcie4", "pcie5")] == [12 * GB, 24 * GB, 48 * GB]


def test_a_link_preset_can_be_overridden():
    link = LinkConfig("rdma_25g", latency_s=0.001, scope="pool").resolve()
    assert (link.bandwidth_bytes_per_s, link.latency_s, link.scope) == (25e9 / 8, 0.001, "pool")


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "carrier_pigeon"},
        {"bandwidth_bytes_per_s": 0.0},
        {"efficiency": 1.5},
        {"busy_factor": 0.0},
        {"latency_s": -1.0},
        {"scope": "galaxy"},
    ],
)
def test_bad_links_are_refused(fields):
    with pytest.raises(ConfigError, match=f"link.{next(iter(fields))}"):
        LinkConfig(**fields)


def costs(pool, mechanism, link="rdma_100g"):
    view = pool(4, layouts=("a", "a", "b", "a"), models=("m", "m", "m", "other"))
    MoveCosts(mechanism, LINKS[link], np.full(4, 131072.0)).attach(view)
    return view


def test_unlike_layouts_fall_back_or_refuse(pool):
    targets = np.arange(1, 4)
    falls, refuses = KvCopy(), KvCopy(fallback="refuse")
    view = costs(pool, falls)
    by_ids = costs(pool, TokenIds()).move_cost_s(1000, 0, targets)
    fallen = view.move_cost_s(1000, 0, targets)
    refused = costs(pool, refuses).move_cost_s(1000, 0, targets)
    assert fallen[1] == by_ids[1]
    assert fallen[0] < by_ids[0]
    assert np.isinf(refused[1])
    assert refused[0] == fallen[0]
    # Another model cannot continue the text, whatever the mechanism.
    assert np.isinf([fallen[2], by_ids[2], refused[2]]).all()


def test_full_caches_slow_the_copy(pool):
    view = costs(pool, KvCopy(control_s=0.0))
    idle = view.move_cost_s(8192, 0, np.array([1]))
    view.kv_usage[1] = 1.0
    latency_s = LINKS["rdma_100g"].latency_s
    assert view.move_cost_s(8192, 0, np.array([1])) - latency_s == pytest.approx((idle - latency_s) / 0.4)
