"""Links share their bandwidth by processor sharing."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsim.core import SimulationError
from gsim.gateway.clock import Clock
from gsim.gateway.moving.links import LinkNetwork
from gsim.migration import Link

UNIT = Link("unit", bandwidth_bytes_per_s=100.0, efficiency=1.0, latency_s=0.0, busy_factor=0.4)


def ends(transfers, link=UNIT, faults=()):
    """(start, source, target, bytes[, load]) -> when each ended and whether it arrived; ``faults``: (time, call)."""
    env = Clock()
    network = LinkNetwork(env, link)
    found = {}

    def send(i, start, source, target, size, load=0.0):
        yield start
        arrived = yield from network.transfer(source, target, size, load)
        found[i] = (env.now, arrived)

    def fault(at, call):
        yield at
        call(network)

    for i, transfer in enumerate(transfers):
        env.start(send(i, *transfer))
    for at, call in faults:
        env.start(fault(at, call))
    env.run()
    assert len(network) == 0
    return [found[i] for i in range(len(transfers))], network


def times(*args, **kwargs):
    return [at for at, _ in ends(*args, **kwargs)[0]]


def test_one_transfer_takes_latency_and_bytes_over_rate():
    link = dataclasses.replace(UNIT, efficiency=0.8, latency_s=0.5)
    assert times([(1.0, 0, 1, 160.0)], link) == pytest.approx([1.0 + 2.0 + 0.5])


def test_transfers_of_one_port_share_it():
    # Alone for 1 s, then half each until the first is done at 3 s; the rest of the second runs alone.
    assert times([(0.0, 0, 1, 200.0), (1.0, 0, 2, 200.0)]) == pytest.approx([3.0, 4.0])


def test_transfers_of_different_ports_do_not_meet():
    assert times([(0.0, 0, 1, 200.0), (0.0, 2, 3, 200.0), (0.0, 1, 0, 200.0)]) == pytest.approx([2.0] * 3)


def test_the_narrower_end_decides():
    # Two into 2; the third shares its source with the first, so it is bound there.
    assert times([(0.0, 0, 2, 100.0), (0.0, 1, 2, 100.0), (0.0, 0, 3, 100.0)]) == pytest.approx([2.0, 2.0, 2.0])


def test_a_pool_wide_link_is_shared_by_all():
    link = dataclasses.replace(UNIT, scope="pool")
    assert times([(0.0, 0, 1, 100.0), (0.0, 2, 3, 100.0)], link) == pytest.approx([2.0, 2.0])


def test_load_slows_down_to_the_busy_factor():
    assert times([(0.0, 0, 1, 100.0, 1.0)]) == pytest.approx([1 / 0.4])
    assert times([(0.0, 0, 1, 100.0, 0.5)]) == pytest.approx([1 / 0.7])


def test_a_degraded_link_takes_longer_while_it_lasts():
    faults = [(1.0, lambda network: network.degrade(0.25)), (3.0, lambda network: network.degrade(1.0))]
    assert times([(0.0, 0, 1, 200.0)], faults=faults) == pytest.approx([1.0 + 2.0 + 0.5])


def test_an_end_that_goes_down_ends_its_transfers_and_frees_the_others():
    done, network = ends([(0.0, 0, 1, 200.0), (0.0, 0, 2, 200.0)], faults=[(1.0, lambda network: network.cut(1))])
    assert done == [(1.0, False), (pytest.approx(2.5), True)]
    assert network.carried_bytes == pytest.approx(250.0)


def test_nothing_takes_no_time():
    assert times([(2.0, 0, 1, 0.0)]) == [2.0]


@pytest.mark.parametrize("size", [-1.0, float("inf"), float("nan")])
def test_bytes_must_be_a_number(size):
    with pytest.raises(SimulationError, match="bytes"):
        ends([(0.0, 0, 1, size)])


@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.integers(0, 3), st.integers(4, 7), st.floats(1, 1e12)), min_size=1, max_size=12
    ),
    st.sampled_from(["port", "pool"]),
)
def test_every_transfer_arrives_and_none_beats_the_line(transfers, scope):
    link = dataclasses.replace(UNIT, scope=scope)
    done, network = ends(transfers, link)
    assert network.carried_bytes == pytest.approx(sum(size for *_, size in transfers))
    for (start, _, _, size), (end, arrived) in zip(transfers, done, strict=True):
        assert arrived
        assert end >= (start + size / 100.0) * (1 - 1e-9)
    # Work is conserved: in a pool-wide link, the last ends when all bytes have passed, idle gaps aside.
    if scope == "pool":
        total_s = sum(size for *_, size in transfers) / 100.0
        first = min(start for start, *_ in transfers)
        assert max(end for end, _ in done) <= (first + 5.0 + total_s) * (1 + 1e-9)
