"""The rectifier ``marginal`` moves where both sides together gain, and not otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from gsim.core import ConfigError, build


def moves(pool_view, active, **fields):
    return [(m.request_id, m.target) for m in build("rectifier", "marginal", **fields).review(active, pool_view)]


def test_who_would_miss_moves_to_where_it_is_in_time(pool, requests):
    """200 tokens to go and 6 s: 12 s where it is, 4 s on the idle instance."""
    view = pool(2, tpot_s=[0.06, 0.02])
    view.now_s = 4.0
    assert moves(view, requests(1, deadline_s=10.0)) == [(0, 1)]


def test_who_is_in_time_stays_and_so_does_who_is_lost_anywhere(pool, requests):
    view = pool(2, tpot_s=[0.03, 0.02])
    view.now_s = 1.0
    assert not moves(view, requests(1, deadline_s=20.0))
    assert not moves(view, requests(1, deadline_s=2.0)), "two tokens in fifty could be had"
    assert not moves(view, requests(1, deadline_s=0.5)), "late already"


def test_it_does_not_save_one_at_the_cost_of_more(pool, requests):
    """The target's requests are just in time, and the newcomer's prompt would take a second of theirs."""
    view = pool(2, tpot_s=[0.06, 0.02])
    view.now_s = 4.0
    n = 21
    columns = {"instance": [0] + [1] * 20, "prompt_tokens": [10_000] + [100] * 20}
    crowded = requests(n, deadline_s=[11.0] + [8.6] * 20, **columns)
    roomy = requests(n, deadline_s=[11.0] + [60.0] * 20, **columns)
    assert (0, 1) not in moves(view, crowded)
    assert (0, 1) in moves(view, roomy)


def test_every_move_counts_for_the_next(pool, requests):
    """Ten would be saved one by one; together they would slow one another, and the target takes part in four moves."""
    view = pool(2, tpot_s=[0.06, 0.02])
    view.now_s = 4.0
    ten = requests(10, deadline_s=10.0)
    assert len(moves(view, ten)) == 4
    assert len(moves(view, ten, max_inflight=1)) == 1
    assert len(moves(view, ten, max_inflight=10, max_candidates=3)) == 3


@pytest.mark.parametrize("columns", [{"moving": True}, {"moves": 2}])
def test_who_moves_or_has_moved_stays(pool, requests, columns):
    view = pool(2, tpot_s=[0.06, 0.02])
    view.now_s = 4.0
    assert not moves(view, requests(1, deadline_s=10.0, **columns))


def test_nobody_moves_to_an_instance_that_is_down_or_to_no_avail(pool, requests):
    view = pool(3, tpot_s=[0.06, 0.02, 0.06])
    view.now_s = 4.0
    view.available[1] = False
    assert not moves(view, requests(1, deadline_s=10.0))
    view.available[1] = True
    view.move_cost_s = lambda tokens, source, targets: np.full(len(targets), 5.0)
    assert not moves(view, requests(1, deadline_s=10.0)), "the move takes what would be gained"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"interval_s": 0.0}, "interval_s must be greater than 0, not 0.0"),
        ({"deviation": 0.0}, "deviation must be greater than 0, not 0.0"),
        ({"least_gain": -0.1}, "least_gain must be 0 or more, not -0.1"),
        ({"max_moves": 0}, "max_moves must be 1 or more, not 0"),
    ],
)
def test_fields_are_checked(fields, said):
    with pytest.raises(ConfigError, match=said):
        build("rectifier", "marginal", **fields)
