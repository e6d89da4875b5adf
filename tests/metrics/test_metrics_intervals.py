"""Intervals over seeds: inside what is possible, and covering as often as they say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsim.metrics import interval_of, mean_interval, positive_interval, share_interval


class Cell:
    def __init__(self, **columns):
        self.columns = columns

    def metric(self, name):
        return np.array(self.columns.get(name, [math.nan]), dtype=float)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.sampled_from([None, 1.0, 500.0]))
def test_a_share_stays_a_share(shares, trials):
    mean, low, high = share_interval(shares, trials)
    assert 0 <= low <= mean <= high <= 1


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=12))
def test_what_cannot_be_negative_has_no_negative_bound(values):
    mean, low, high = positive_interval(values)
    assert 0 <= low <= mean * (1 + 1e-9) + 1e-9
    assert high == mean_interval(values).high


def test_the_published_absurdity_is_gone():
    # Two seeds around 5.17 gave [-5.18, 15.5].
    assert mean_interval([4.355, 5.985]).low < 0
    assert positive_interval([4.355, 5.985]).low == 0
    assert share_interval([0.99, 1.0]).high <= 1 < mean_interval([0.99, 1.0]).high


@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_shares_are_covered(share, seeds):
    # Runs of equal policies differ by more than binomial noise: their shares are Beta around the true one.
    rng = np.random.default_rng(seeds)
    runs = rng.beta(share * 60, (1 - share) * 60, size=(2000, seeds))
    inside = [low <= share <= high for _, low, high in map(share_interval, runs)]
    assert 0.93 <= np.mean(inside) <= 0.985


def test_without_variation_the_trials_bound_the_share():
    assert share_interval([1.0, 1.0, 1.0]) == (1.0, 1.0, 1.0)
    mean, low, high = share_interval([1.0] * 5, trials=5000)
    assert (mean, high) == (1.0, 1.0)
    assert low == pytest.approx(1 - 2.776**2 / (5000 + 2.776**2), rel=1e-4)
    mean, low, high = share_interval([0.0] * 5, trials=5000)
    assert (mean, low) == (0.0, 0.0)
    assert 0 < high < 0.01


def test_one_seed_has_no_interval():
    mean, low, high = share_interval([0.9])
    assert mean == 0.9
    assert math.isnan(low)
    assert math.isnan(high)


def test_the_name_tells_the_kind():
    cell = Cell(attainment=[0.999, 1.0, 1.0], requests=[100] * 3, goodput_rps=[0.1, 9.0, 0.2], growth_x=[-1.0, 1.0])
    assert interval_of(cell, "attainment").high <= 1
    assert interval_of(cell, "goodput_rps").low == 0
    assert interval_of(cell, "growth_x").low < -1
    assert math.isnan(interval_of(cell, "absent").mean)
