"""Each scaler does what its formula says, on cases that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gsim.core import ClusterView, Completion, ConfigError, Drain, Request, Slots, SlotState, Start, StaticView, build
from gsim.scaling.allocation import cheapest_counts
from gsim.scaling.melange import Bucket
from gsim.scaling.variants import towards, variants_of

#: Two slots each of a slow cheap card and a fast dear one.
GPU = ("slow", "slow", "fast", "fast")
PRICE = np.array([1.0, 1.0, 3.0, 3.0])
INF = math.inf
#: Everything starts and stops at once where nothing else is tried.
AT_ONCE = {"stabilisation_s": 0.0}


def pool(up: str = "1000") -> tuple[Slots, ClusterView]:
    """``1`` up, ``0`` off, ``b`` booting, ``d`` draining; a slow instance carries 100 tokens/s, a fast one 400."""
    fast = np.array([gpu == "fast" for gpu in GPU])
    n = len(GPU)
    static = StaticView(
        gpu=GPU,
        model=("m",) * n,
        nominal_tpot_s=np.where(fast, 0.01, 0.04),
        nominal_prefill_s_per_token=np.zeros(n) + 1e-9,
        nominal_tokens_per_s=np.where(fast, 400.0, 100.0),
        kv_capacity_tokens=np.full(n, 100_000, dtype=np.int64),
        max_num_seqs=np.full(n, 64, dtype=np.int64),
        max_num_batched_tokens=np.full(n, 2048, dtype=np.int64),
        block_size=16,
        price_per_hour=PRICE,
        layout=("l",) * n,
        cards=np.ones(n, dtype=np.int64),
    )
    view = ClusterView.of(static)
    codes = {"0": SlotState.OFF, "b": SlotState.BOOTING, "1": SlotState.UP, "d": SlotState.DRAINING}
    state = np.array([codes[one] for one in up], dtype=np.int64)
    view.available[:] = state == SlotState.UP
    view.now_s = 1000.0
    return Slots(state, np.zeros(n), np.full(n, 20.0), 0), view


def loaded(scaler, rate_per_s: float, output: int, slo_s: float = 100.0, until_s: float = 1000.0, over_s: float = 60.0):
    """What arrived in the last minute, evenly, and has the same output each."""
    count = round(rate_per_s * over_s)
    for i in range(count):
        request = Request(i, until_s - over_s + i / rate_per_s, 10, 4096, slo_s)
        scaler.observe_arrival(request)
        scaler.observe_completion(Completion(request, 0, 0.0, 0.1, 1.0, output))
    return scaler


# ------------------------------------------------------------------------------------------------ target utilisation
@pytest.mark.parametrize(
    ("running", "waiting", "held", "steps"),
    [
        ((16, 16), 0, 0, []),  # on target
        ((17, 17), 0, 0, []),  # within the tolerance
        ((24, 24), 0, 0, [Start(2)]),  # ceil(2 * 1.5)
        ((16, 16), 8, 0, [Start(2)]),
        ((16, 16), 0, 16, [Start(2)]),  # what waits at the gateway counts
        ((200, 200), 0, 0, [Start(2), Start(3)]),
        ((4, 3), 0, 0, [Drain(1)]),  # the one with less stops
    ],
)
def test_target_utilisation_keeps_instances_in_proportion(running, waiting, held, steps):
    slots, view = pool("1100")
    slots = Slots(slots.state, slots.since_s, slots.boot_s, held)
    view.running[:2], view.in_flight[:2] = running, running
    view.waiting[:2] = waiting
    scaler = build("scaler", "target_utilisation", **AT_ONCE)
    assert list(scaler.review(slots, view)) == steps


def test_target_utilisation_shrinks_to_the_largest_wanted_of_its_window():
    scaler = build("scaler", "target_utilisation", stabilisation_s=100.0)
    slots, view = pool("1111")
    asked = []
    for now_s, running in ((0.0, 16), (50.0, 4), (99.0, 4), (101.0, 8), (151.0, 4), (202.0, 4)):
        view.now_s = now_s
        view.running[:] = running
        asked.append(len(scaler.review(slots, view)))
    # 4 until it is 100 s old, then 2 (wanted at 101 s), then 1.
    assert asked == [0, 0, 0, 2, 2, 3]


def test_target_utilisation_by_queue_and_by_kv():
    slots, view = pool("1100")
    view.waiting[:2] = 10, 4
    view.kv_usage[:2] = 0.9, 0.85
    assert list(build("scaler", "target_utilisation", metric="queue").review(slots, view)) == [Start(2)]
    assert list(build("scaler", "target_utilisation", metric="kv").review(slots, view)) == [Start(2)]


# --------------------------------------------------------------------------------------------------------------- wva
@pytest.mark.parametrize(
    ("up", "kv", "waiting", "steps"),
    [
        ("1100", (0.65, 0.72), (0, 0), []),  # mean spare 0.115
        ("1100", (0.65, 0.76), (0, 0), [Start(2)]),  # mean spare 0.095; no slow one is off
        ("1010", (0.65, 0.76), (0, 0), [Start(1)]),  # the cheapest that is off
        ("1b10", (0.65, 0.76), (0, 0), [Start(3)]),  # of it one boots already
        ("1010", (0.1, 0.1), (3, 3), [Start(1)]),  # spare queue 2
        ("1010", (0.9, 0.9), (0, 0), [Start(1)]),  # all are saturated
        ("1010", (0.9, 0.1), (0, 0), []),  # of two one is saturated: none may go
        ("1110", (0.1, 0.1, 0.1), (0, 0, 0), [Drain(2)]),  # the dearest
        ("1110", (0.5, 0.5, 0.5), (0, 0, 0), []),  # on two it would be 0.75
        ("1000", (0.0,), (0,), []),  # min_instances
    ],
)
def test_wva_adds_the_cheapest_and_takes_the_dearest(up, kv, waiting, steps):
    slots, view = pool(up)
    ready = np.flatnonzero(view.available)
    view.kv_usage[ready], view.waiting[ready] = kv, waiting
    assert list(build("scaler", "wva").review(slots, view)) == steps


def test_wva_is_saturated_where_its_thresholds_say():
    slots, view = pool("1100")
    view.waiting[:2] = 4
    assert list(build("scaler", "wva", queue_threshold=8.0, queue_spare=2.0).review(slots, view)) == []
    assert len(build("scaler", "wva", queue_threshold=3.0, queue_spare=2.0).review(slots, view)) == 1


def test_wva_keeps_the_least_of_a_variant():
    slots, view = pool("1110")
    assert list(build("scaler", "wva", min_replicas={"fast": 1}).review(slots, view)) == [Drain(1)]


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("wva", {"min_replicas": {"faster": 1}}, "the pool has no card 'faster'; it has: slow, fast"),
        ("wva", {"min_replicas": {"fast": 3}}, "min_replicas.fast must be at most the pool's slots with it .2., not 3"),
        *(
            (name, {"min_instances": 5}, f"'{name}': min_instances must be at most the slots of the pool .4., not 5")
            for name in ("target_utilisation", "wva", "forecast", "melange", "feasible_supply")
        ),
    ],
)
def test_a_pool_that_cannot_be_what_is_asked_is_refused_before_the_clock_starts(name, fields, said):
    _, view = pool()
    build("scaler", name, min_instances=4).check_pool(view.static)
    with pytest.raises(ConfigError, match=said):
        build("scaler", name, **fields).check_pool(view.static)


# ------------------------------------------------------------------------------------------------ allocation programs
@pytest.mark.parametrize(
    ("loads", "counts"),
    [
        ([[0.9, 0.25]], [1, 0]),
        ([[1.9, 0.5]], [2, 0]),
        ([[3.0, 0.75]], [0, 1]),  # three cheap ones do not exist
        ([[4.0, 1.0], [4.0, 1.0]], [0, 2]),
        ([[INF, 0.3], [1.0, 0.3]], [0, 1]),  # the fast one that is needed has room for all
        ([[INF, 0.9], [1.0, 0.3]], [1, 1]),
        ([[INF, INF], [1.0, 0.3]], [1, 0]),  # what nobody can serve is no load
        ([[INF, 9.0]], [2, 2]),  # more than there is
        ([], [0, 0]),
    ],
)
def test_the_cheapest_counts(loads, counts):
    assert cheapest_counts(np.array(loads, dtype=float).reshape(-1, 2), [1.0, 3.0], [2, 2]) == counts


def test_whole_slices_stay_on_one_card_and_limits_hold():
    halves = np.array([[1.2, 0.6], [1.2, 0.6]])
    assert cheapest_counts(halves, [1.0, 1.4], [4, 4]) == [1, 1]
    assert cheapest_counts(halves, [1.0, 1.4], [4, 4], whole=True) == [0, 2]
    assert cheapest_counts(halves, [1.0, 1.4], [4, 4], most=1) == [0, 1]
    # Starting is dear: what is there stays.
    assert cheapest_counts(np.array([[1.0, 1.0]]), [1.0, 1.6], [1, 1], there=[0, 1], start_usd=[2.0, 2.0]) == [0, 1]


def test_new_ones_start_before_old_ones_stop_and_one_always_serves():
    slots, view = pool("1000")
    variants = variants_of(view.static)
    assert towards([0, 1], variants, slots, view) == [Start(2)]
    slots, view = pool("10b0")
    assert towards([0, 1], variants, slots, view) == []
    slots, view = pool("1010")
    assert towards([0, 1], variants, slots, view) == [Drain(0)]
    assert towards([0, 0], variants, slots, view) == [Drain(0)]
    # No room for a third: an old one goes first.
    slots, view = pool("1100")
    assert towards([1, 1], variants, slots, view, most=2) == [Drain(1)]


# ------------------------------------------------------------------------------------- forecast, melange, feasible
def test_forecast_carries_a_trend_on_to_when_new_ones_would_serve():
    scaler = build("scaler", "forecast", bin_s=10.0, interval_s=10.0, smoothing=1.0, trend=1.0)
    for at in range(5):
        for i in range(10 * (at + 1)):
            scaler.observe_arrival(Request(i, 10.0 * at, 10, 100, 6.0))
    # 1, 2, 3, 4, 5 a second; a boot and an interval take 30 s.
    assert scaler.forecast_per_s(5, 30.0) == pytest.approx(8.0)
    season = build("scaler", "forecast", bin_s=10.0, season_s=20.0, smoothing=1.0, trend=1.0)
    for at, rate in enumerate((1, 3, 1, 3, 1)):
        for i in range(10 * rate):
            season.observe_arrival(Request(i, 10.0 * at, 10, 100, 6.0))
    assert season.forecast_per_s(5, 10.0) == pytest.approx(3.0)
    assert season.forecast_per_s(4, 10.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("rate_per_s", "steps"),
    [(0.5, []), (1.0, [Start(1)]), (3.0, [Start(2)])],
)
def test_forecast_starts_the_cheapest_for_its_rate(rate_per_s, steps):
    """A request has 100 tokens, so a slow instance carries one a second."""
    slots, view = pool("1000")
    fields = {"buffer": 0.0, "utilisation": 0.99, "bin_s": 10.0, "interval_s": 10.0}
    scaler = loaded(build("scaler", "forecast", **fields), rate_per_s, 100, until_s=1000.0, over_s=1000.0)
    assert list(scaler.review(slots, view)) == steps


@pytest.mark.parametrize(
    ("rate_per_s", "slo_s", "steps"),
    [
        (0.5, 10.0, []),
        (1.5, 10.0, [Start(1)]),
        (3.0, 10.0, [Start(2)]),
        (0.5, 3.0, [Start(2)]),  # 100 tokens at 40 ms: a slow one is late even alone
        (0.5, 0.5, []),  # and here any
    ],
)
@pytest.mark.parametrize("name", ["melange", "feasible_supply"])
def test_deadlines_choose_the_cards(name, rate_per_s, slo_s, steps):
    slots, view = pool("1000")
    more = {"slack": 1.0} if name == "feasible_supply" else {}
    scaler = loaded(build("scaler", name, utilisation=1.0, window_s=60.0, **more), rate_per_s, 100, slo_s)
    assert list(scaler.review(slots, view)) == steps


def test_melange_with_a_mix_is_solved_once_and_stays():
    mix = (Bucket(1.5, 10, 100, 10.0), Bucket(0.5, 10, 100, 3.0))
    scaler = build("scaler", "melange", mix=mix, utilisation=1.0)
    slots, view = pool("1000")
    assert list(scaler.review(slots, view)) == [Start(2)]  # one fast one has room for all
    slots, view = pool("1010")
    assert list(scaler.review(slots, view)) == [Drain(0)]
    slots, view = pool("0010")
    assert list(scaler.review(slots, view)) == []


def test_feasible_supply_waits_before_it_shrinks():
    scaler = build("scaler", "feasible_supply", utilisation=1.0, slack=1.0, stabilisation_s=100.0)
    slots, view = pool("1100")
    loaded(scaler, 1.5, 100)
    assert list(scaler.review(slots, view)) == []
    view.now_s = 1090.0
    assert list(scaler.review(slots, view)) == []
    view.now_s = 1101.0
    assert list(scaler.review(slots, view)) == [Drain(1)]


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("wva", {"interval_s": 0.0}, "interval_s must be greater than 0, not 0.0"),
        ("wva", {"min_instances": 0}, "min_instances must be 1 or more, not 0"),
        ("forecast", {"min_instances": 3, "max_instances": 2}, "max_instances must be min_instances (3) or more"),
        ("target_utilisation", {"metric": "luck"}, "scaler.metric must be one of queue, kv, in_flight, not 'luck'"),
        (
            "wva",
            {"queue_threshold": 4.0, "queue_spare": 5.0},
            "scaler.queue_spare must be above 0 and below queue_threshold (4.0), not 5.0",
        ),
        ("wva", {"kv_spare": 0.9}, "scaler.kv_spare must be above 0 and below kv_threshold (0.8), not 0.9"),
        ("forecast", {"season_s": 60.0}, "scaler.season_s must be at least two bins of 60.0 s, not 60.0"),
        ("melange", {"slices": 0}, "scaler.slices must be from 1 to 1000, not 0"),
        ("feasible_supply", {"slack": 0.0}, "scaler.slack must be greater than 0, not 0.0"),
    ],
)
def test_what_a_scaler_cannot_be_is_said(name, fields, said):
    with pytest.raises(ConfigError) as error:
        build("scaler", name, **fields)
    assert said in str(error.value)


@pytest.mark.parametrize("name", ["target_utilisation", "wva", "forecast", "melange", "feasible_supply"])
def test_no_scaler_goes_beyond_its_most(name):
    scaler = build("scaler", name, max_instances=2)
    slots, view = pool("1000")
    if hasattr(scaler, "observe_arrival"):
        loaded(scaler, 20.0, 100, 10.0)
    view.running[0], view.waiting[0], view.kv_usage[0] = 300, 50, 0.95
    steps = list(scaler.review(slots, view))
    assert sum(isinstance(one, Start) for one in steps) == 1
