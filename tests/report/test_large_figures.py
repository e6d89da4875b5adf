"""A study of any size has a figure: what would take minutes to draw, or more pixels than there are, is bounded."""

from __future__ import annotations

import pytest
from test_findings import RATE, FakeCell, cell

from gsim.report.sweep_figure import sweep_figure
from gsim.study.figure import save, shortened


def texts(figure):
    return [text for axis in figure.axes for text in (*axis.get_xticklabels(), *axis.get_yticklabels())]


def test_a_load_in_five_hundred_steps_has_a_label_here_and_there():
    figure = sweep_figure([cell("a", load + 1, 0.9) for load in range(500)], RATE, ["goodput_rps", "attainment"])
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert 5 <= len(labels) <= 12
    assert (labels[0], labels[-1]) == ("1", "500")


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param([FakeCell(f"policy {i}", {}, {"attainment": [0.5] * 5}) for i in range(800)], id="policies"),
        pytest.param([cell("a", 1 + i % 30, 0.9, other=i // 30) for i in range(900)], id="facets"),
        pytest.param([cell(f"p{i % 20}", 1 + i // 20, 0.9) for i in range(600)], id="points"),
        pytest.param([cell("x" * 5000 + str(i), 1 + k, 0.9) for i in range(2) for k in range(3)], id="names"),
        pytest.param([cell("a", 1 + k, 0.9, path="y" * 3000) for k in range(3)], id="values"),
    ],
)
def test_whatever_is_swept_can_be_drawn(cells):
    axis = RATE if RATE in cells[0].point else None
    figure = sweep_figure(cells, axis, ["attainment"])
    width, height = figure.get_size_inches() * 200
    assert 100 < width < 10_000
    assert 100 < height < 10_000
    assert len(texts(figure)) < 800
    assert len(figure.axes) < 60
    assert all(len(text.get_text()) <= 100 for text in texts(figure))


def test_a_figure_with_names_of_any_length_is_saved(tmp_path):
    cells = [cell(f"{'long ' * 400}{i}", 1 + k, 0.9) for i in range(2) for k in range(2)]
    assert all(path.stat().st_size for path in save(sweep_figure(cells, RATE, ["attainment"]), tmp_path / "f"))


def test_only_what_is_too_long_is_shortened():
    assert shortened("goodserve") == "goodserve"
    assert shortened("y" * 101) == "y" * 99 + "\u2026"
