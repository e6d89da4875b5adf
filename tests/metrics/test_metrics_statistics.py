"""Intervals and paired differences against tabled t quantiles and against coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsim.metrics import mean_interval, paired_difference


def test_interval_by_hand():
    # Five values: mean 3, standard deviation sqrt(2.5), t(4, 0.975) = 2.776445.
    mean, low, high = mean_interval([1, 2, 3, 4, 5])
    half = 2.776445 * math.sqrt(2.5 / 5)
    assert (mean, low, high) == pytest.approx((3, 3 - half, 3 + half), rel=1e-6)


def test_one_seed_has_no_interval():
    mean, low, high = mean_interval([4.0])
    assert mean == 4.0
    assert math.isnan(low)
    assert math.isnan(high)


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(2000):
        _, low, high = mean_interval(rng.normal(10.0, 3.0, size=5))
        covered += low <= 10.0 <= high
    assert 0.935 < covered / 2000 < 0.965


def test_paired_by_hand():
    # Differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t = 3.4641 with 2 degrees of freedom, p = 0.0742.
    result = paired_difference([2, 4, 6], [1, 2, 3])
    assert result.mean == 2
    assert result.p_value == pytest.approx(0.0742, abs=1e-4)
    assert not result.significant


def test_pairing_sees_what_intervals_hide():
    load = np.array([10.0, 50.0, 30.0, 80.0, 20.0])
    better = load + np.array([1.0, 1.1, 0.9, 1.05, 0.95])
    assert paired_difference(better, load).significant
    assert mean_interval(better).low < mean_interval(load).high  # unpaired they overlap


def test_equal_runs_do_not_differ():
    result = paired_difference([1.0, 2.0], [1.0, 2.0])
    assert (result.mean, result.low, result.high, result.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert not result.significant


@pytest.mark.parametrize(("seeds", "known"), [(2, False), (5, False), (6, True)])
def test_a_few_equal_differences_are_no_certainty(seeds, known):
    # Shares of a few requests come in steps, so two seeds are often equally far apart.
    shares = [0.1 * (seed + 2) for seed in range(seeds)]
    result = paired_difference(shares, [share - 0.1 for share in shares])
    assert result.mean == pytest.approx(0.1)
    assert result.p_value == 2.0 ** (1 - seeds)
    assert result.significant is known
    assert math.isnan(result.low) is not known


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="equal lengths"):
        paired_difference([1.0], [1.0, 2.0])


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20), st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
def test_swapping_turns_the_sign(a, b):
    n = min(len(a), len(b))
    there, back = paired_difference(a[:n], b[:n]), paired_difference(b[:n], a[:n])
    assert there.mean == pytest.approx(-back.mean)
    assert there.p_value == pytest.approx(back.p_value)
    assert math.isnan(there.low) or there.low <= there.mean <= there.high
