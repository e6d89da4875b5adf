"""How many experts a batch meets."""

from __future__ import annotations

import numpy as np
import pytest

from gsim.latency.operators.experts import Activation


def test_more_experts_are_met_by_larger_batches_and_fewer_by_preference() -> None:
    tokens = np.array([1.0, 2.0, 16.0, 256.0, 4096.0])
    uniform, preferred, alike = (
        Activation(128, 8, share=share, preference=preference).at(tokens)
        for share, preference in ((1.0, 0.0), (1.0, 1.0), (0.5, 0.0))
    )
    assert uniform == pytest.approx(128 * (1 - (1 - 1 / 16) ** tokens))
    for met in (uniform, preferred, alike):
        assert met[0] == pytest.approx(8.0)
        assert (np.diff(met) >= 0.0).all()
        assert met[-1] <= 128.0 + 1e-9
    assert (preferred[1:-1] < uniform[1:-1]).all()
    assert (alike[1:] < uniform[1:]).all()
    assert Activation(128, 8, preference=2.0).chances().sum() == pytest.approx(8.0)
    assert Activation(4, 2, curve=((1, 2), (10, 4))).at(np.array([1.0, 5.5, 99.0])).tolist() == [2.0, 3.0, 4.0]
