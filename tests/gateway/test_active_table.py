"""The requests in flight as columns, against what was put in."""

from __future__ import annotations

import numpy as np
from paced_backend import Paced

from gsim.core import Job, Progress, Request
from gsim.gateway.active import Active
from gsim.gateway.active_table import ActiveTable
from gsim.gateway.clock import Clock


def _sent(request_id: int, instance: int) -> Active:
    request = Request(request_id, 0.5 * request_id, 100 + request_id, 500, 8.0)
    active = Active(Job(request, 50))
    active.instance = instance
    active.dispatched_s = request.arrival_s + 0.25
    active.predicted_tokens = 40.0 + request_id
    return active


def test_rows_are_what_was_sent_also_after_the_table_has_grown():
    clock = Clock()
    backends = [Paced(clock, i, lambda _index, _event: None) for i in range(2)]
    table = ActiveTable(capacity=2)
    sent = [_sent(i, i % 2) for i in range(7)]
    for active in sent[:3]:
        table.add(active, 1.0)
    table.snapshot(table.follow(backends, 1.0), None)
    for active in sent[3:]:
        table.add(active, 2.0)
    table.remove(sent[1])
    table.set_moving(sent[4], True)
    for active in sent:
        if active is not sent[1]:
            backends[active.instance].send(active.job, 2.0, 0, active)
    clock.run_to(0.055)  # five tokens each

    rows = table.snapshot(table.follow(backends, 3.0), None)
    order = np.argsort(rows.request_id)
    assert len(table) == 6
    assert rows.request_id[order].tolist() == [0, 2, 3, 4, 5, 6]
    assert rows.instance[order].tolist() == [0, 0, 1, 0, 1, 0]
    assert rows.prompt_tokens[order].tolist() == [100, 102, 103, 104, 105, 106]
    assert rows.generated_tokens.tolist() == [5] * 6
    assert rows.arrival_s[order].tolist() == [0.0, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert rows.dispatched_s[order].tolist() == [0.25, 1.25, 1.75, 2.25, 2.75, 3.25]
    assert rows.deadline_s[order].tolist() == [8.0, 9.0, 9.5, 10.0, 10.5, 11.0]
    assert rows.moving[order].tolist() == [False, False, False, True, False, False]
    assert rows.previous.tolist() == [-1] * 6
    assert np.isnan(rows.predicted_tokens).all()


def test_what_was_last_seen_is_one_object_until_somebody_looks_again():
    clock = Clock()
    backends = [Paced(clock, i, lambda _index, _event: None) for i in range(2)]
    table = ActiveTable(capacity=2)
    assert len(table.last(None)) == 0
    sent = [_sent(i, i % 2) for i in range(3)]
    for active in sent[:2]:
        table.add(active, 1.0)
    table.follow(backends, 1.0)
    table.remove(sent[0])
    table.add(sent[2], 1.5)
    seen = table.last(None)
    assert seen.request_id.tolist() == [1], "who has ended is not in it, nor who came later"
    assert seen.observed_s == 1.0
    assert table.last(None) is seen
    table.follow(backends, 2.0)
    assert sorted(table.last(None).request_id.tolist()) == [1, 2]
    assert table.last(None).observed_s == 2.0


def test_a_request_that_moves_says_where_it_was_and_what_it_had():
    clock = Clock()
    backends = [Paced(clock, i, lambda _index, _event: None) for i in range(2)]
    table = ActiveTable(capacity=2)
    active = _sent(3, 0)
    table.add(active, 1.0)
    active.resume(Progress(7, 109))
    table.detach(active)
    active.instance, active.migrations = 1, 1
    table.add(active, 2.0)
    rows = table.snapshot(table.follow(backends, 2.0), None)
    assert (rows.instance[0], rows.previous[0], rows.moved_s[0]) == (1, 0, 2.0)
    assert (rows.moves[0], rows.generated_tokens[0], rows.prompt_tokens[0]) == (1, 7, 103)
