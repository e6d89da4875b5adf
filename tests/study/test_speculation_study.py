"""The study of speculation, small: what is simulated is the closed form, and large batches lose."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gsim.core import ConfigError
from gsim.study.questions.speculation import Speculation, turning_point
from gsim.study.study import Context


def test_simulated_gains_are_the_closed_form_and_large_batches_lose(tmp_path):
    study = Speculation(
        profiles=("a40-llama-3.1-8b",), batch_sizes=(32, 256, 1024), acceptances=(0.6,), output_tokens=60
    )
    settings: Any = None
    found = study.run(Context("test", tmp_path, (0, 1), settings))
    table = found.tables["speculation"]
    # A batch of 1,024 is beyond the card's max_num_seqs.
    assert table["batch"].tolist() == [32, 256]
    assert table["gain"].tolist() == pytest.approx(table["closed_form"].tolist(), rel=0.06)
    assert table["gain"].iloc[0] > 1.3
    assert table["gain_high"].iloc[1] < 1.0
    assert "a loss from batch" in found.notes[0]
    assert set(found.figures) == {"speculation"}


@pytest.mark.parametrize(
    ("gains", "at"),
    [
        ([2.0, 1.5, 1.2], math.inf),
        ([0.9, 0.8, 0.7], 0.0),
        # Exactly 1 is no loss yet: it begins right behind.
        ([2.0, 1.0, 0.5], 4.0),
        ([1.5, 1.5, 0.5], 4.0 * 2**0.5),
    ],
)
def test_the_turning_point_is_interpolated_by_logarithms(gains, at):
    assert turning_point([2, 4, 8], gains) == pytest.approx(at)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt_tokens": 1}, "prompt_tokens must be 2 or more, not 1"),
        ({"batch_sizes": (0, 4)}, r"batch_sizes must be numbers from 1, not \[0, 4\]"),
        ({"acceptances": (1.5,)}, r"acceptance must be a number in \[0, 1\], not 1.5"),
        ({"profiles": ()}, "profiles must name a card"),
    ],
)
def test_what_cannot_be_tried_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Speculation(**fields)
